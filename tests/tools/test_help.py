"""Tests the command lines of the tools: `--help` waits for no framework, and mistakes end in argparse's sentence."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from vil_dense.backbones import DIRECTIONS
from vil_dense.cost.flops import OPERATORS
from vil_dense.mm.evaluation.protocols import PROTOCOLS
from vil_dense.mm.visualization.loggers import LOGGERS

ROOT = Path(__file__).parents[2]
TOOLS = [path for path in sorted((ROOT / "tools").rglob("*.py")) if '__name__ == "__main__"' in path.read_text()]
FRAMEWORKS = {"matplotlib", "mmcv", "mmengine", "mmseg", "monai", "scipy.stats", "torch", "triton"}
ALL_TOOLS = """
import contextlib, io, runpy, sys
for tool in sys.argv[1:]:
    sys.argv, path = [tool, "--help"], sys.path[:]
    sys.path.insert(0, tool.rpartition("/")[0])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            runpy.run_path(tool, run_name="__main__")
        except SystemExit as end:
            assert end.code == 0, tool
    assert "usage: " in printed.getvalue(), tool
    sys.path[:] = path
    print(tool, *sys.modules)
"""


def test_help_imports_no_framework() -> None:
    """Runs `--help` of all tools in one new Python; the first to import a framework would show for all after it."""
    command = [sys.executable, "-c", ALL_TOOLS, *map(str, TOOLS)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == len(TOOLS) > 20
    assert {tool: FRAMEWORKS & set(modules) for tool, *modules in lines if FRAMEWORKS & set(modules)} == {}


@pytest.mark.parametrize(
    ("tool", "name", "known"),
    [
        ("tools/test.py", "PROTOCOLS", PROTOCOLS),
        ("tools/train.py", "LOGGERS", LOGGERS),
        ("tools/analysis/get_flops.py", "BACKENDS", OPERATORS),
        ("tools/model_converters/convert_checkpoint.py", "DIRECTIONS", DIRECTIONS),
    ],
)
def test_choices_are_those_of_the_package(tool: str, name: str, known: object) -> None:
    """Tests what a tool lists itself, because the list's own module would import torch."""
    assert runpy.run_path(str(ROOT / tool))[name] == list(known)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--cfg-options", "model.neck"], "argument --cfg-options: expected key=value with dots in the key"),
        (["--cfg-options", "a=(1,2"], "argument --cfg-options: brackets do not match"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_mistakes_end_in_the_sentence_of_argparse(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/train.py", "config.py", *options])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "tools/train.py"), run_name="__main__")
    assert end.value.code == 2
    assert f"train.py: error: {sentence}" in capsys.readouterr().err.splitlines()[-1]
