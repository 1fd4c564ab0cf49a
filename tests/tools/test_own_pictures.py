"""Tests pictures and masks of one's own: one command trains, the run's config or the first predicts and tests."""

from pathlib import Path

import numpy as np
import pytest
from picture_folders import COLOURS, class_map, write_folder
from PIL import Image
from refusals import assert_error_line
from run_command import run_command
from small_runs import NETWORK, as_words

from vil_dense.mm.visualization.browse import GAP, SIDE

ROOT = Path(__file__).parents[2]
CONFIG = "configs/vil_upernet_images.py"
TINY = " ".join(as_words(NETWORK))
SHORT = (
    "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2 train_dataloader.batch_size=2 "
    "train_dataloader.num_workers=0 val_dataloader.num_workers=0 test_dataloader.num_workers=0"
)


def test_train_test_and_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    data = write_folder(tmp_path / "data", "flat", "colours")
    (data / "pictures/p0.jpg").write_bytes(b"no picture")
    work, out = tmp_path / "work", tmp_path / "out"
    assert (
        run_command(f"train {CONFIG} --work-dir {work} --cfg-options data_root={data} {TINY} {SHORT}", monkeypatch) == 0
    )
    text = capsys.readouterr().out
    lines = ("data: ", "sizes (height x width): 12 x 16 px", "classes: 3 (from", "left out: ", "crop: 32 x 32 px")
    places = [text.index(line) for line in lines]
    assert places == sorted(places) and "p0.jpg" in text.split("left out: ")[1].split("\n")[0]
    run, checkpoint = work / "vil_upernet_images.py", work / "iter_2.pth"
    assert run_command(f"test {run} {checkpoint} --work-dir {tmp_path}/test --out {out}/test", monkeypatch) == 0
    for name, config in (("run", f"{run}"), ("first", f"{CONFIG} --cfg-options {TINY}")):
        line = f"predict {config.partition(' ')[0]} {checkpoint} {data}/pictures/q0.jpg --out {out}/{name} "
        assert run_command(line + config.partition(" ")[2], monkeypatch) == 0
        label = Image.open(out / name / "labels/q0.png")
        values = {tuple(colour) for colour in np.asarray(label.convert("RGB")).reshape(-1, 3).tolist()}
        assert label.mode == "P" and values <= {(0, 0, 0), (0, 0, 128), (128, 0, 0)}
        assert np.asarray(label).shape == class_map().shape
    assert list((out / "test").rglob("*.png"))


def test_the_sample_s_config_refuses_another_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Refuses what would change nothing: the value was used when the file was read."""
    data = write_folder(tmp_path / "data")
    line = f"train configs/vil_upernet_sample.py --work-dir {tmp_path}/work --cfg-options data_root={data}"
    assert run_command(line, monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "data_root", "train_dataloader.dataset.data_root")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("data_root={data}/gone", ("{data}/gone", "data_root")),
        ("data_root={data} classes=Nothing", ("Nothing", ".json")),
        ("data_root={data} split_seeds=3", ("split_seeds",)),
    ],
)
def test_refused_in_one_line(
    options: str, named: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data = write_folder(tmp_path / "data")
    line = f"train {CONFIG} --work-dir {tmp_path}/work --cfg-options {options.format(data=data)}"
    assert run_command(line, monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, *(part.format(data=data) for part in named))


def test_training_samples_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks the first sample: an unchanged pipeline shows picture and mask, blended where not black."""
    data = write_folder(tmp_path / "data", coding="colours")
    plain = "[dict(type='LoadImageFromFile'),dict(type='LoadMask'),dict(type='PackSegInputs')]"
    config = tmp_path / "config.py"
    config.write_text(f'_base_ = "{ROOT / CONFIG}"\ntrain_dataloader = dict(dataset=dict(pipeline={plain}))\n')
    line = f"browse_dataset {config} --out {tmp_path}/out --number 3 --cfg-options data_root={data}"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sheet_001.png").write_bytes(b"of an earlier call with more samples")
    assert run_command(line, monkeypatch) == 0
    (file,) = (tmp_path / "out").glob("*.png")
    seen = np.asarray(Image.open(file)).astype(int)
    rows, columns = GAP + (2 * np.arange(12) + 1) * SIDE // 32, GAP + (2 * np.arange(16) + 1) * SIDE // 32
    picture, blended = seen[np.ix_(rows, columns)], seen[np.ix_(rows, columns + SIDE + GAP)]
    read = np.asarray(Image.open(data / "images/train/p0.jpg")).astype(int)
    assert abs(picture - read).max() <= 3  # OpenCV and Pillow decode JPEG a little differently
    colours = COLOURS[class_map()]
    shown = np.where(colours.any(-1, keepdims=True), (picture + colours) // 2, picture)
    np.testing.assert_array_equal(blended, shown)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("configs/vil_unet3d_sample.py", ("vil_unet3d_sample", "volumes")),
        (f"{CONFIG} --number 0", ("--number", "0")),
        (f"{CONFIG} --cfg-options data_root=nowhere", ("nowhere",)),
    ],
)
def test_what_cannot_be_drawn(
    line: str, named: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run_command(f"browse_dataset --out {tmp_path}/out {line}", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, *named)
