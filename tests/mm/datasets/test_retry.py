"""Tests data on a share that goes away for a while; files that are missing or damaged for good."""

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import raises_one_line
from volume_plans import small_plan

from vil_dense.mm.datasets import retry
from vil_dense.mm.datasets.checks.pairs import read_pair
from vil_dense.mm.datasets.class_folders import LabelledPictures
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.datasets.segmentation import SampleDataset
from vil_dense.synthetic.scenes import write_sample
from vil_dense.synthetic.volumes import write_sample as write_volumes


class Share:
    """Imitates a folder that is away until the clock, which only sleeping moves, stands at `back`."""

    def __init__(self, folder: Path, back: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.back, self.now, self.sleeps = folder, back, 0.0, []
        self.away = folder.with_name("away")
        self.said = []
        monkeypatch.setattr(retry.time, "sleep", self.sleep)
        monkeypatch.setattr(retry.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(retry, "print_log", lambda *line: self.said.append(line))
        folder.rename(self.away)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        if self.now >= self.back and self.away.exists():
            self.away.rename(self.folder)


def pictures(root: Path):
    write_sample(root, train=2, val=1)
    steps = [dict(type="SeedSample"), dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    steps += [dict(type="RandomCrop", crop_size=(40, 40)), dict(type="PackSegInputs")]
    prefix = dict(img_path="images/training", seg_map_path="annotations/training")
    dataset = SampleDataset(data_root=str(root), data_prefix=prefix, pipeline=steps)
    return lambda: dataset[SampleKey(1, 0, 3)]["inputs"]


def classes(root: Path):
    for name in "ab":
        (root / "train" / name).mkdir(parents=True)
        Image.new("RGB", (9, 9), (200, 0, 0)).save(root / "train" / name / "x.png")
    steps = [dict(type="LoadPicture"), dict(type="PackPicture")]
    dataset = LabelledPictures(str(root), "train", pipeline=steps)
    return lambda: dataset[1]["inputs"]


def volumes(root: Path):
    from vil_dense.mm.volumes import VolumeDataset

    write_volumes(root, train=2, val=1)
    plan = small_plan("liver", "spleen", "vessel", "gland", spacing_mm=(4.0, 4.0, 8.0))
    dataset = VolumeDataset(str(root), plan, check_s=None, cache_gib=0.0)
    return lambda: dataset[SampleKey(1, 0, 3)]["image"]


def labels(root: Path):
    write_sample(root, train=2, val=1)
    paths = [str(min((root / part / "training").iterdir())) for part in ("images", "annotations")]
    return lambda: torch.from_numpy(read_pair(*paths))


@pytest.mark.parametrize("make", [pictures, classes, volumes, labels])
def test_a_share_that_comes_back(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    read = make(tmp_path / "share")
    random.seed(7)
    expected = read()
    share = Share(tmp_path / "share", 60.0, monkeypatch)
    torch.testing.assert_close(read(), expected, rtol=0, atol=0)
    assert share.sleeps == [1, 2, 4, 8, 16, 30]
    ((line, logger, level),) = share.said
    assert f"{tmp_path}/share" in line and line.endswith("is unreachable, waiting up to 300 s for it")
    assert (logger, level) == ("current", logging.WARNING)


def test_a_share_that_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read = pictures(tmp_path / "share")
    share = Share(tmp_path / "share", np.inf, monkeypatch)
    with raises_one_line(ValueError, "training_00001.jpg", "No such file"):
        read()
    assert 300 <= share.now <= 330


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_what_will_not_mend_fails_at_once(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read = classes(tmp_path / "share")
    path = tmp_path / "share/train/b/x.png"
    Image.new("RGB", (9, 9)).save(path.with_name("other.png"))
    path.unlink() if what == "missing" else path.write_bytes(b"no picture")
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: pytest.fail("waited"))
    with raises_one_line(ValueError, "x.png"):
        read()


def test_a_folder_of_dicom_files_can_be_opened(tmp_path: Path) -> None:
    assert not retry.can_be_opened(str(tmp_path)), "an empty mount point has no files"
    (tmp_path / "a.dcm").touch()
    assert retry.can_be_opened(str(tmp_path))
