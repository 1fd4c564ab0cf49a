"""Tests that classes of a folder are found in files, in mmseg's tables and in the masks, or refused in one sentence."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_folders import build, class_map, label_of, write_folder
from PIL import Image
from refusals import raises_one_line

from vil_dense.mm.datasets.folders.masks import LoadMask
from vil_dense.mm.datasets.folders.survey import inspect_folder
from vil_dense.mm.datasets.transforms.raster import LoadRasterAnnotations


def test_classes_of_a_file(tmp_path: Path) -> None:
    write_folder(tmp_path)
    rows = [dict(name="sky", id=255, colour=[1, 2, 3]), dict(name="sea", id=[0, 127], colour="#0a0b0c")]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    meta = build(tmp_path).metainfo
    assert meta["classes"] == ("sky", "sea") and meta["palette"] == [[1, 2, 3], [10, 11, 12]]
    assert meta["label_map"] == {255: 0, 0: 1, 127: 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", '["a", "b", "c"]'),
        ("classes.json", '{"a": 0, "b": 1, "c": 2}'),
        ("classes.json", '{"classes": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}'),
        ("classes.csv", "name,id\na,0\nb,1\nc,2\n"),
        ("classes.csv", "Name, ID, colour\nc,2,\na,0,\nb,1,\n"),
    ],
)
def test_forms_of_files_of_classes(name: str, text: str, tmp_path: Path) -> None:
    write_folder(tmp_path, coding="palette")
    (tmp_path / name).write_text(text)
    meta = build(tmp_path).metainfo
    ids = {meta["classes"][index]: id_ for id_, index in meta["label_map"].items() if index < 255}
    assert ids == dict(a=0, b=1, c=2)


@pytest.mark.parametrize("coding", ["colours", "palette"])
@pytest.mark.parametrize("header", [["name", "r", "g", "b"], ["name", "colour"]])
def test_classes_by_colour(header: list[str], coding: str, tmp_path: Path) -> None:
    """Tests that without ids the colours are those of the masks, or of their palettes."""
    write_folder(tmp_path, coding=coding)
    rows = [("road", 128, 0, 0), ("car", 0, 0, 128), ("void", 0, 0, 0)]
    with (tmp_path / "classes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows if len(header) == 4 else [(row[0], f"{row[1]} {row[2]} {row[3]}") for row in rows])
    dataset = build(tmp_path, ignore=["void"])
    assert dataset.metainfo["classes"] == ("road", "car")
    np.testing.assert_array_equal(label_of(dataset), np.array([255, 1, 0])[class_map()])


def test_classes_of_mmseg(tmp_path: Path) -> None:
    write_folder(tmp_path, coding="palette")
    meta = build(tmp_path, classes="ADE20KDataset").metainfo
    assert len(meta["classes"]) == 150 and meta["label_map"][1] == 0 and meta["label_map"][0] == 255
    assert build(tmp_path, classes="PascalVOCDataset").metainfo["label_map"][1] == 1


def test_cityscapes_of_all_ids(tmp_path: Path) -> None:
    write_folder(tmp_path, "cityscapes", "palette")
    for path in (tmp_path / "gtFine").rglob("*.png"):
        Image.fromarray(np.array([7, 0, 33], np.uint8)[class_map()]).save(
            path.with_name(path.name.replace("labelTrainIds", "labelIds"))
        )
        path.unlink()
    dataset = build(tmp_path)
    assert len(dataset.metainfo["classes"]) == 19
    np.testing.assert_array_equal(label_of(dataset), np.array([0, 255, 18])[class_map()])


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ([dict(name="a", id=0), dict(name="b", id=127)], ("255", "ignore=[255]")),
        ([dict(name="a", id=0), dict(name="a", id=127)], ("a", "name")),
        ([dict(name="a", id=0), dict(name="b", id=0)], ("0", "id")),
        ([dict(name="a", id="x")], ("'x'",)),
        ([dict(id=3)], ("row 1", "name")),
        ("NoSuchDataset", ("NoSuchDataset",)),
        ("gone.json", ("gone.json",)),
        ([], ("0", "254")),
    ],
)
def test_classes_that_are_refused(classes: object, named: tuple[str, ...], tmp_path: Path) -> None:
    write_folder(tmp_path)
    with raises_one_line((ValueError, FileNotFoundError), *named):
        inspect_folder(str(tmp_path), classes=classes, ignore=[] if classes and len(classes) == 2 else None)


def test_ids_of_masks_that_were_not_counted_are_named_in_training(tmp_path: Path) -> None:
    dataset = build(write_folder(tmp_path))
    Image.fromarray(np.full((12, 16), 9, np.uint8)).save(tmp_path / "masks/train/p0.png")
    with raises_one_line(ValueError, "p0.png", "9"):
        dataset[0]


@pytest.mark.parametrize("step", [LoadMask(), LoadRasterAnnotations()], ids=["LoadMask", "LoadRasterAnnotations"])
def test_a_picture_without_a_mask_passes(step: Callable[[dict], dict]) -> None:
    """Tests mmseg's `inference_model`, which leaves out `LoadAnnotations` alone."""
    assert step(dict(img_path="a.png")) == dict(img_path="a.png")
