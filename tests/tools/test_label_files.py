"""Tests label pictures that the commands write: ids of the files, and names with the folders of the pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from forget_runs import forget_runs
from PIL import Image
from refusals import assert_error_line
from run_command import run_command

from vil_dense.synthetic.scenes import CLASSES, write_sample

ROOT = Path(__file__).parents[2]
CHOSEN = (0, 5, 6)
"""Classes of the sample that are trained, counted from 0; the files count from 1 and have 0 for ignored pixels."""
CONFIG = """
_base_ = "{root}/configs/vil_upernet_sample.py"
part = dict(data_root="{data}", metainfo=dict(classes={classes}))
model = dict(
    backbone=dict(dim=32, depth=2, out_indices=(0, 0, 1, 1)),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32] * 4, channels=16, num_classes={outputs}{one_logit}),
    auxiliary_head=dict(in_channels=32, channels=16, num_classes={outputs}{one_logit}),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=part)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=part)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4))
"""


def train(folder: Path, names: list[str], one_logit: str = "") -> tuple[Path, Path]:
    """Trains on pictures of one name in two folders; returns the config and its checkpoint."""
    data = folder / "sample"
    write_sample(data, train=4, val=2)
    for split in ("training", "validation"):
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            files = sorted((data / kind / split).glob(f"*.{suffix}"))
            for number, file in enumerate(files):
                place = data / kind / split / f"site{number % 2}" / f"{number // 2:04d}.{suffix}"
                place.parent.mkdir(exist_ok=True)
                shutil.move(file, place)
    config = folder / "config.py"
    config.write_text(CONFIG.format(root=ROOT, data=data, classes=names, outputs=len(names), one_logit=one_logit))
    forget_runs()
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"train {config} --work-dir {folder}/run", patch) == 0
    return config, folder / "run/iter_4.pth"


@pytest.mark.parametrize(
    ("chosen", "one_logit"),
    [
        (CHOSEN, ""),
        (CHOSEN[:2], ", out_channels=1, threshold=0.5, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)"),
    ],
    ids=["three classes", "two classes, one logit"],
)
def test_the_ids_of_the_files_are_written(
    chosen: tuple[int, ...],
    one_logit: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    names = [CLASSES[number] for number in chosen]
    config, checkpoint = train(tmp_path, names, one_logit)
    line = f"test {config} {checkpoint} --work-dir {tmp_path}/test --out {tmp_path}/out --show-dir {tmp_path}/show"
    assert run_command(line, monkeypatch) == 0
    pictures = tmp_path / "sample/images/validation"
    assert run_command(f"predict {config} {checkpoint} {pictures} --out {tmp_path}/own", monkeypatch) == 0
    tested, predicted = (
        {str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}
        for folder in (tmp_path / "out", tmp_path / "own/labels")
    )
    assert list(tested) == ["site0/0000.png", "site1/0000.png"] == list(predicted)
    picture = next(pictures.rglob("*.jpg"))
    shutil.copy(picture, picture.with_suffix(".jpeg"))
    assert run_command(line, monkeypatch) == 2  # both would be one file
    assert_error_line(capsys.readouterr().err, "0000.jpg", "0000.jpeg", "0000.png")
    assert sorted(path.name for path in (tmp_path / "show").rglob("*.png")) == ["0000.png"] * 2
    for name, label in tested.items():
        assert set(np.unique(label)) <= {number + 1 for number in chosen}
        np.testing.assert_array_equal(label, predicted[name])
