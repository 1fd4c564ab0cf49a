"""Tests that a folder is read in every layout and with masks of every coding, and the log says what is left out."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from picture_folders import CODINGS, LAYOUTS, PIPELINE, SIZE, build, class_map, label_of, write_folder
from PIL import Image
from refusals import assert_one_line, raises_one_line

from vil_dense.mm.datasets.folders.dataset import PictureFolder
from vil_dense.mm.datasets.folders.survey import inspect_folder
from vil_dense.mm.datasets.label_ids import file_ids
from vil_dense.mm.visualization.draw import save_labels

VALUES = {
    "0/127/255": [0, 127, 255],
    "colours": [0x000000, 0x000080, 0x800000],
    "palette": [0, 1, 2],
    "16 bits": [7, 300, 40000],
    "0..2 and 255": [0, 1, 2],
}


def said(root: Path, **options: object) -> str:
    return "\n".join(inspect_folder(str(root), **options).lines)


def test_a_folder_is_needed() -> None:
    """Tests what a test of a published model says without its data."""
    with raises_one_line(ValueError, "PictureFolder", "test_dataloader.dataset.data_root"):
        PictureFolder(pipeline=[])


CASES = [(layout, coding) for layout in LAYOUTS for coding in CODINGS[:3]]
CASES += [("splits below", coding) for coding in CODINGS[3:]]


@pytest.mark.parametrize(("layout", "coding"), CASES)
def test_every_layout_and_coding(layout: str, coding: str, tmp_path: Path) -> None:
    write_folder(tmp_path, layout, coding)
    train, val = build(tmp_path), build(tmp_path, "val")
    assert (len(train), len(val)) == (5, 2)
    assert list(train.metainfo["label_map"])[-3:] == VALUES[coding]
    assert train.metainfo["label_map"] == val.metainfo["label_map"] and len(train.metainfo["classes"]) == 3
    expected = class_map()
    if coding == "0..2 and 255":
        expected[0] = 255
    for index in range(5):
        np.testing.assert_array_equal(label_of(train, index), expected)


def test_the_split_of_files_and_folders_is_followed(tmp_path: Path) -> None:
    for layout in ("lists", "voc", "splits below", "splits above", "coco", "cityscapes"):
        pairs = inspect_folder(str(write_folder(tmp_path / layout, layout))).splits
        assert [pair.name[-2:] for pair in pairs["train"]] == [f"p{number}" for number in range(5)]
        assert [pair.name[-2:] for pair in pairs["val"]] == ["q0", "q1"]


def test_training_alone_is_divided(tmp_path: Path) -> None:
    write_folder(tmp_path / "folders")
    shutil.rmtree(tmp_path / "folders/images/val")
    write_folder(tmp_path / "lists", "lists")
    (tmp_path / "lists/val.txt").unlink()
    for kind in ("folders", "lists"):
        pairs = inspect_folder(str(tmp_path / kind)).splits
        assert sorted(pair.name for listed in pairs.values() for pair in listed) == [f"p{n}" for n in range(5)]
        assert [len(pairs["train"]), len(pairs["val"])] == [4, 1] and "drawn" in said(tmp_path / kind)


def test_a_split_in_the_data_root_comes_first(tmp_path: Path) -> None:
    write_folder(tmp_path, "lists")
    (tmp_path / "splits.json").write_text(json.dumps(dict(train=["p0", "q0.jpg"], val=["images/p1"])))
    pairs = inspect_folder(str(tmp_path)).splits
    assert {split: [pair.name for pair in listed] for split, listed in pairs.items()} == dict(
        train=["p0", "q0"], val=["p1"]
    )
    (tmp_path / "splits.json").write_text(json.dumps(dict(train=["p0"], val=["gone"])))
    with raises_one_line(FileNotFoundError, "splits.json", "gone"):
        inspect_folder(str(tmp_path))
    (tmp_path / "splits.json").write_text("[1]")
    with raises_one_line(ValueError, "splits.json", "train", "val"):
        inspect_folder(str(tmp_path))


@pytest.mark.parametrize("name", ["train.txt", "classes.csv"])
def test_lists_that_are_no_text_are_named(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path, "lists")
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with raises_one_line(ValueError, name, "UTF-8"):
        inspect_folder(str(tmp_path))


@pytest.mark.parametrize("entry", ["", 3, None, ["images/p0.jpg"], ["images/p0.jpg", "gone.png"]])
def test_entries_of_a_split_that_name_nothing(entry: object, tmp_path: Path) -> None:
    write_folder(tmp_path, "lists")
    (tmp_path / "splits.json").write_text(json.dumps(dict(train=[entry], val=["p1"])))
    with raises_one_line(FileNotFoundError, "splits.json"):
        inspect_folder(str(tmp_path))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images/train/p1.JPG").write_bytes(b"no picture")
    (tmp_path / "masks/train/p2.png").unlink()
    (tmp_path / "masks/train/other.png").write_bytes((tmp_path / "masks/train/p0.png").read_bytes())
    (tmp_path / "images/train/.DS_Store").write_bytes(b"")
    (tmp_path / "images/train/film.avi").write_bytes(b"")
    text = said(tmp_path)
    for part in ("3 pairs to train, 2 to validate", "p1.JPG", "p2.jpeg", "other.png", ".DS_Store", "film.avi"):
        assert part in text, part
    assert len(build(tmp_path)) == 3


def test_pictures_that_not_every_pipeline_loads_are_said(tmp_path: Path) -> None:
    write_folder(tmp_path)
    pages = [Image.new("RGB", SIZE[::-1])] * 3
    (tmp_path / "images/train/p1.JPG").unlink()
    pages[0].save(tmp_path / "images/train/p1.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(np.full(SIZE, 1000, np.uint16)).save(tmp_path / "images/train/p3.png")
    lines = said(tmp_path).splitlines()
    for names in (("page", "p1.tif"), ("8 bits", "unchanged", "p3.png")):
        assert_one_line(next(line for line in lines if names[-1] in line), *names)


def test_five_bands(tmp_path: Path) -> None:
    """Tests that pictures which only rasterio reads are found, measured, loaded by its loader, and named if damaged."""
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFF needs the extra raster")
    write_folder(tmp_path, "flat")
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
        profile = dict(driver="GTiff", count=5, height=SIZE[0], width=SIZE[1], dtype="uint16", crs="EPSG:32633")
        place = rasterio.Affine(10, 0, 0, 0, -10, 0)
        with rasterio.open(path.with_suffix(".tif"), "w", **profile, transform=place) as dataset:
            dataset.write(np.full((5, *SIZE), 1000, np.uint16))
    (tmp_path / "pictures/p0.tif").write_bytes((tmp_path / "pictures/p0.tif").read_bytes()[:300])
    text = said(tmp_path)
    assert "12 x 16 px, all 6 pictures" in text and "p0.tif" in text.split("left out: ")[1]
    assert_one_line(text.partition("left out: ")[0].splitlines()[-1], "LoadRasterFromFile", "p1.tif")
    pipeline = [dict(type="LoadRasterFromFile"), *PIPELINE[1:]]
    found = build(tmp_path, "all", pipeline=pipeline)[0]
    assert found["inputs"].shape == (5, *SIZE) and (found["inputs"] == 1000).all()


def test_other_splits_and_pairs_of_no_list_are_said(tmp_path: Path) -> None:
    write_folder(tmp_path / "folders")
    (tmp_path / "folders/images/test").mkdir()
    (tmp_path / "folders/images/test/a.png").write_bytes((tmp_path / "folders/masks/train/p0.png").read_bytes())
    assert "images/test" in said(tmp_path / "folders")
    write_folder(tmp_path / "lists", "lists")
    (tmp_path / "lists/val.txt").write_text("q1\n")
    assert "1 pairs in no list" in said(tmp_path / "lists")


def test_a_photo_among_the_masks_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, coding="colours")
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "masks/train/p0.png")
    assert "masks/train/p0.png" in said(tmp_path) and "classes: 3 (" in said(tmp_path)


def test_a_broken_file_of_a_list_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, "lists")
    whole = (tmp_path / "images/p3.png").read_bytes()
    (tmp_path / "images/p3.png").write_bytes(whole[: len(whole) // 2])
    with raises_one_line(ValueError, "p3.png", "train.txt"):
        inspect_folder(str(tmp_path))


def test_first_lines(tmp_path: Path) -> None:
    lines = inspect_folder(str(write_folder(tmp_path, coding="0..2 and 255"))).lines
    assert "images/train + masks/train" in lines[0] and "5 pairs to train, 2 to validate (split: folders)" in lines[0]
    assert "12 x 16 px, all 7 pictures" in lines[1]
    for part in ("7 of 7 masks read", "0 34.38 %", "ignored: 255, 8.33 % of the pixels"):
        assert part in lines[2]


def test_an_archive_of_one_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "MyData", "splits below")
    assert len(build(tmp_path / "data")) == 5


def test_folders_of_the_config(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images").rename(tmp_path / "rgb")
    with raises_one_line(FileNotFoundError, "rgb", "masks", tmp_path):
        inspect_folder(str(tmp_path))
    found = inspect_folder(str(tmp_path), pictures="rgb/{split}", masks="masks/{split}")
    assert [len(pairs) for pairs in found.splits.values()] == [5, 2]


def test_several_folders_that_may_be_the_data_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "masks").rename(tmp_path / "labels")
    write_folder(tmp_path)
    with raises_one_line(ValueError, "masks/train", "labels/train"):
        inspect_folder(str(tmp_path))


def test_names_that_do_not_match(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for path in (tmp_path / "masks/train").iterdir():
        path.rename(path.with_name("x" + path.name))
    with raises_one_line(ValueError, tmp_path / "images/train", tmp_path / "masks/train", "p0", "xp0"):
        inspect_folder(str(tmp_path))


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images/train/p0.png").write_bytes((tmp_path / "images/train/p3.png").read_bytes())
    with raises_one_line(ValueError, "p0.jpg", "p0.png"):
        inspect_folder(str(tmp_path))


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_written_is_read_back(coding: str, tmp_path: Path) -> None:
    """Tests that a written label has the values of the data set's masks; those of colours are in its palette."""
    meta = build(write_folder(tmp_path, coding=coding)).metainfo
    ids = file_ids(meta, 3)
    save_labels(tmp_path / "label.png", ids[class_map()], ids, meta["palette"])
    written = Image.open(tmp_path / "label.png")
    if coding == "colours":
        assert written.mode == "P" and np.array_equal(np.asarray(written), class_map())
        written = written.convert("RGB")
        np.testing.assert_array_equal(written, Image.open(tmp_path / "masks/train/p0.png"))
    else:
        np.testing.assert_array_equal(np.asarray(written), np.array(VALUES[coding])[class_map()])


def test_jpeg_masks_and_floats_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for split in ("train", "val"):
        for path in (tmp_path / "masks" / split).iterdir():
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
    with raises_one_line(ValueError, "JPEG", "PNG"):
        inspect_folder(str(tmp_path))
    for path in (tmp_path / "masks").rglob("*.jpg"):
        Image.fromarray(class_map().astype(np.float32)).save(path.with_suffix(".tif"))
        path.unlink()
    with raises_one_line(ValueError, ".tif", "integers"):
        inspect_folder(str(tmp_path))


def test_data_sets_go_to_loader_processes(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(build(write_folder(tmp_path), serialize_data=True)))
    np.testing.assert_array_equal(label_of(dataset), class_map())


@pytest.mark.parametrize("tail", ["", "_mask"])
def test_pictures_and_masks_in_one_folder(tail: str, tmp_path: Path) -> None:
    """Tests that no mask is taken as a picture: it has a tail, or another ending than its JPEG."""
    write_folder(tmp_path, "flat")
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "pictures").iterdir():
        path.rename(tmp_path / "data" / f"{path.stem}.jpg")
    for path in (tmp_path / "masks").iterdir():
        path.rename(tmp_path / "data" / f"{path.stem.removesuffix('_mask')}{tail}.png")
    pairs = inspect_folder(str(tmp_path), pictures="data", masks="data").splits
    named = [(pair.picture.name, pair.mask.name) for listed in pairs.values() for pair in listed]
    assert sorted(named) == [
        (f"{name}.jpg", f"{name}{tail}.png") for name in ("p0", "p1", "p2", "p3", "p4", "q0", "q1")
    ]


def test_a_picture_is_not_its_own_mask(tmp_path: Path) -> None:
    write_folder(tmp_path)
    with raises_one_line(ValueError, "p0", "_mask"):
        inspect_folder(str(tmp_path), pictures="masks/train", masks="masks/train")
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({split: [["masks/train/p0.png"] * 2] for split in ("train", "val")}))
    with raises_one_line(ValueError, "p0.png"):
        inspect_folder(str(tmp_path))
