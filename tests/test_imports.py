"""Tests that the core pulls in no framework when it runs; import-linter says the same of the source."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"matplotlib", "mmcv", "mmengine", "mmseg", "monai", "triton"}


@cache
def loaded(statement: str, path: Path = ROOT) -> set[str]:
    """Returns the frameworks that a new Python, which looks in `path` first, has loaded after `statement`."""
    code = f"import sys; {statement}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return FRAMEWORKS & set(run.stdout.split())


def test_core_pulls_in_no_framework() -> None:
    assert loaded("import vil_dense.backbones") <= loaded("import torch")


def test_a_framework_in_the_core_is_noticed(tmp_path: Path) -> None:
    """Tests a core module that imports empty stand-ins of the frameworks (torch itself looks for triton)."""
    shutil.copytree(ROOT / "vil_dense", tmp_path / "vil_dense", ignore=shutil.ignore_patterns("__pycache__"))
    intruders = FRAMEWORKS - {"triton"}
    for name in intruders:
        (tmp_path / f"{name}.py").touch()
    with (tmp_path / "vil_dense/ops/traversal.py").open("a") as module:
        module.write(f"\nimport {', '.join(sorted(intruders))}\n")
    assert loaded("import vil_dense.backbones", tmp_path) - loaded("import torch", tmp_path) == intruders


def test_pictures_need_no_monai() -> None:
    pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")
    assert "monai" not in loaded("import vil_dense.mm")
