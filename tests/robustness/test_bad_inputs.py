"""Tests bad inputs through the commands: each ends in a line that names what is wrong, with its exit code, and leaves
nothing half made."""

import re
from pathlib import Path

import pytest
from refusals import assert_error_line, raises_one_line

pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")
pytest.importorskip("monai", reason="MONAI is missing: pip install '.[medical]'")

import torch
from bad_commands import CASES
from bad_data import write_data
from bad_inputs import write_bad_inputs
from command_lines import Bad
from PIL import Image
from run_command import ROOT, run_command


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bad_inputs(tmp_path_factory.mktemp("bad") / "inputs")


@pytest.fixture
def command(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that runs a command line: its exit code, stdout and stderr."""

    def run(line: str) -> tuple[int, str, str]:
        code = run_command(line, monkeypatch)
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def left(folder: Path) -> list[str]:
    """Returns the files that a refused command wrote, beside the log, the config and the lock of a training."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [
        name for name in files if not re.search(r"\.log$|^\.lock$|^config\.py$|^\w+\.py$|/vis_data/config\.py$", name)
    ]


def named(case: Bad, bad: Path) -> list[str]:
    return [name.replace("{bad}", str(bad)) for name in case.names]


@pytest.mark.parametrize("name", CASES)
def test_bad(name: str, bad: Path, tmp_path: Path, command) -> None:
    case, out = CASES[name], tmp_path / "out"
    before = sorted(bad.rglob("*"))
    code, said, errors = command(case.command.replace("{bad}", str(bad)).replace("{out}", str(out)))
    assert code == case.code, (said, errors)
    assert_error_line(errors, *named(case, bad))
    assert "Traceback" not in said
    assert left(out) == [] and sorted(bad.rglob("*")) == before
    assert len(errors.splitlines()[-1]) < 1000


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "1 x 1"])
def test_pictures_that_are_taken(mode: str, bad: Path, tmp_path: Path, command) -> None:
    size = (1, 1) if mode == "1 x 1" else (40, 30)
    picture = Image.new("RGB", size, (200, 40, 90)).convert("RGB" if mode == "1 x 1" else mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    code, said, errors = command(f"predict {bad}/config.py {bad}/good.pth {path} --out {tmp_path}/out")
    assert code == 0, (said, errors)
    with Image.open(tmp_path / "out/labels/a.png") as label:
        assert label.size == size


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_a_run_is_named(workers: int, bad: Path, tmp_path: Path, command) -> None:
    """Tests a picture that breaks in this process or a data worker: one line of error, the traceback in the log."""
    root = write_data(tmp_path / "data")
    broken = root / "images/training/a.jpg"
    broken.write_bytes(b"nothing")
    options = f"label_check=None train_dataloader.num_workers={workers} train_dataloader.dataset.data_root={root}"
    code, said, errors = command(f"train {bad}/config.py --work-dir {tmp_path}/out --cfg-options {options}")
    assert code == 1, (said, errors)
    assert_error_line(errors, broken, root / "annotations/training/a.png")
    assert "Traceback" not in said and "label_check is None" in said
    (log,) = (tmp_path / "out").glob("*/*.log")
    assert "Traceback" in log.read_text() and str(broken) in log.read_text()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--whole", ("--window 512", "--whole")),
        (
            "--window 32 --window-batch 2",
            ("--window", "32 x 32", "--window-batch", "2"),
        ),
        ("--window 32 --window-batch 1", ("--window", "32 x 32")),
    ],
)
def test_a_prediction_without_memory(
    options: str, names: tuple[str, ...], bad: Path, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr("vil_dense.mm.inference.segmentor.logit_bands", fail)
    picture = f"{bad}/sample/images/validation/a.jpg"
    code, _, errors = command(f"predict {bad}/config.py {bad}/good.pth {picture} --out {tmp_path}/out {options}")
    assert code == 1
    assert_error_line(errors, picture, "out of memory", "Tried to allocate 2 GiB", *names)


def test_a_test_without_memory(bad: Path, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("mmseg.models.EncoderDecoder.predict", fail)
    code, _, errors = command(f"test {bad}/config.py {bad}/good.pth --work-dir {tmp_path}/out")
    assert code == 1
    assert_error_line(errors, "out of memory", "Tried to allocate 2 GiB", "windows")


def test_options_of_ours_fit_a_config_that_is_not_based_on_ours(bad: Path, tmp_path: Path, command) -> None:
    """Tests `label_check` and `compile_blocks`, for which the tools look in every config."""
    config = tmp_path / "config.py"
    config.write_text(
        f"from mmengine.config import Config as _Config\n"
        f"_cfg = _Config.fromfile({str(bad / 'config.py')!r})\n"
        "locals().update({k: v for k, v in _cfg.to_dict().items() if k not in ('label_check', 'compile_blocks')})\n"
        "del _Config, _cfg\n"
    )
    options = "label_check=None compile_blocks=False"
    code, said, errors = command(f"test {config} {bad}/good.pth --work-dir {tmp_path}/out --cfg-options {options}")
    assert code == 0 and "label_check is None" in said, errors


def test_debug_shows_the_traceback(bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises_one_line(FileNotFoundError, "nowhere.py"):
        run_command("train nowhere.py --debug", monkeypatch)
    with raises_one_line(ValueError, "syntax.py", "SyntaxError"):
        run_command(f"analysis/get_flops {bad}/configs/syntax.py --debug", monkeypatch)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("_base_ = 'base.py'\n", ("NameError", "line 2 of {base}")),
        ("import math\n\nmodel = dict(type=math.no_such_name)\n", ("AttributeError", "(line 3)")),
        ("model = dict()\nmodel = dict(\n", ("SyntaxError", "(line 2)")),
    ],
)
def test_an_error_of_a_config_names_its_line(text: str, names: tuple[str, ...], tmp_path: Path, command) -> None:
    base, config = tmp_path / "base.py", tmp_path / "config.py"
    base.write_text("def width(name):\n    return sizes[name]\n\n\ndim = width('tiny')\n")
    config.write_text(text)
    code, _, errors = command(f"train {config}")
    assert code == 2
    assert_error_line(errors, config, *(name.format(base=base) for name in names))


SCRIPTS = [path for path in (ROOT / "tools").rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
TOOLS = [path.relative_to(ROOT / "tools") for path in SCRIPTS]


@pytest.mark.parametrize("tool", sorted(str(path.with_suffix("")) for path in TOOLS))
def test_every_tool_has_debug(tool: str, command) -> None:
    code, said, _ = command(f"{tool} {'op ' if tool == 'benchmark/benchmark' else ''}--help")
    assert code == 0 and "--debug" in said
