"""Pictures and masks of one's own: one command trains, and the run's config or the first one predicts and tests."""

from pathlib import Path

import numpy as np
import pytest
from picture_folders import class_map, write_folder
from PIL import Image
from refusals import assert_error_line
from run_command import run_command

pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
CONFIG = "configs/vil_upernet_images.py"
TINY = (
    "model.backbone.dim=32 model.backbone.depth=2 model.backbone.out_indices=(0,0,1,1) model.neck.embed_dim=32 "
    "model.decode_head.in_channels=[32,32,32,32] model.decode_head.channels=16 model.auxiliary_head.in_channels=32 "
    "model.auxiliary_head.channels=16"
)
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
    """It would change nothing: the value was used when the file was read."""
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
