"""Tests that crops get the class of most of their pixels; the folder of classes is written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import raises_one_line

from vil_dense.mm.datasets.class_folders import LabelledPictures
from vil_dense.mm.datasets.crops import cut_crops, majority

CLASSES = ("left", "right", "rare")


def test_majority() -> None:
    label = np.zeros((4, 6), np.uint8)
    label[:, 3:] = 1
    label[0, 0] = 9  # unlabelled
    assert majority(label, 2, 2, 3, 0.5) == [(0, 0, 0), (0, 2, 0), (0, 4, 1), (2, 0, 0), (2, 2, 0), (2, 4, 1)]
    assert majority(label, 2, 2, 3, 1.0) == [(0, 4, 1), (2, 0, 0), (2, 4, 1)]
    assert majority(np.full((4, 4), 9), 2, 2, 3, 0.1) == []
    assert majority(label, 5, 1, 3, 0.1) == [], "larger than the picture"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Writes ten pictures, bright where a class is `left`, dark where `right`; one crop in the first is `rare`."""
    for folder in ("images/train", "annotations/train"):
        (tmp_path / "source" / folder).mkdir(parents=True)
    for index in range(10):
        label = np.repeat(np.array([[0, 1]], np.uint8), 8, 1).repeat(8, 0)
        if index == 0:
            label[:4, :4] = 2
        Image.fromarray(np.where(label == 0, 250, 5).astype(np.uint8)).save(
            tmp_path / f"source/images/train/{index}.jpg", quality=95
        )
        Image.fromarray(label).save(tmp_path / f"source/annotations/train/{index}.png")
    return tmp_path / "source"


def test_folder_of_classes(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    counts = cut_crops(source, tmp_path / "out", CLASSES, size=4, stride=4, least=2, report=lambda *at: seen.append(at))
    # nine pictures to train with four crops of each class, one picture to validate; `rare` has one crop and is left out
    assert counts == dict(left=(35, 4), right=(36, 4))
    assert seen == [(index, 10) for index in range(1, 11)]
    for name, bright in (("left", True), ("right", False)):
        for path in (tmp_path / "out").glob(f"*/{name}/*.jpg"):
            assert (np.asarray(Image.open(path)).mean() > 128) == bright
    validated = {path.stem.split("_")[0] for path in (tmp_path / "out/val").glob("*/*.jpg")}
    trained = {path.stem.split("_")[0] for path in (tmp_path / "out/train").glob("*/*.jpg")}
    assert validated == {"9"} and not validated & trained
    data = LabelledPictures(str(tmp_path / "out"), "train", pipeline=[])
    assert list(data.metainfo["classes"]) == ["left", "right"]
    assert len(data) == 71


def test_of_many_crops_evenly_spread_ones_are_kept(source: Path, tmp_path: Path) -> None:
    counts = cut_crops(source, tmp_path / "out", CLASSES, size=4, stride=4, least=2, most=10)
    assert counts == dict(left=(10, 1), right=(10, 1))
    pictures = {path.stem.split("_")[0] for path in (tmp_path / "out/train/right").glob("*.jpg")}
    assert {"0", "8"} <= pictures and len(pictures) >= 8


def test_refused_and_nothing_written(source: Path, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "*.jpg"):
        cut_crops(tmp_path / "nowhere", tmp_path / "out", CLASSES)
    with raises_one_line(ValueError, "50", "64"):
        cut_crops(source, tmp_path / "out", CLASSES)
    (source / "annotations/train/5.png").unlink()
    with raises_one_line(FileNotFoundError, "5.jpg", "5.png"):
        cut_crops(source, tmp_path / "out", CLASSES, size=4, stride=4)
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".out*")) == []
    (tmp_path / "out").mkdir()
    with raises_one_line(FileExistsError):
        cut_crops(source, tmp_path / "out", CLASSES)
