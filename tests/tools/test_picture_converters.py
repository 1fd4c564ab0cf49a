"""Tests the tools that write public sets of pictures as folders that the configs read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import assert_error_line
from run_command import run_tool


def paint(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_vessels_of_drive(tmp_path: Path) -> None:
    """Checks names, splits and values of the masks, whose source is a GIF with a palette."""
    rng = np.random.default_rng(0)
    source, out = tmp_path / "DRIVE", tmp_path / "out"
    truths = {}
    for folder, split, number, name in (("training", "train", 21, "training"), ("test", "val", 1, "test")):
        truths[split] = rng.random((9, 8)) < 0.3
        paint(source / f"{folder}/images/{number:02}_{name}.tif", rng.integers(0, 256, (9, 8, 3), np.uint8))
        paint(source / f"{folder}/1st_manual/{number:02}_manual1.gif", np.where(truths[split], 255, 0).astype(np.uint8))
    code, said, error = run_tool("dataset_converters/make_drive", source, "--out", out)
    assert code == 0 and "val: 1 pictures" in said, error
    for split, number in (("train", 21), ("val", 1)):
        picture = np.asarray(Image.open(out / f"images/{split}/{number:02}.png"))
        assert picture.shape == (9, 8, 3)
        mask = np.asarray(Image.open(out / f"masks/{split}/{number:02}.png"))
        np.testing.assert_array_equal(mask, np.where(truths[split], 255, 0))


def test_nuclei_of_a_picture_are_one_mask(tmp_path: Path) -> None:
    source, out = tmp_path / "stage1_train", tmp_path / "out"
    paint(source / "a/images/a.png", np.zeros((6, 5, 4), np.uint8))
    for row in (0, 3):
        nucleus = np.zeros((6, 5), np.uint8)
        nucleus[row] = 255
        paint(source / f"a/masks/{row}.png", nucleus)
    code, _, error = run_tool("dataset_converters/make_nuclei", source, "--out", out)
    assert code == 0, error
    mask = np.asarray(Image.open(out / "masks/a.png"))
    assert mask[[0, 3]].min() == 255 and np.count_nonzero(mask) == 10


@pytest.mark.parametrize("tool", ["make_drive", "make_nuclei"])
def test_a_folder_without_pictures_is_refused(tool: str, tmp_path: Path) -> None:
    code, _, error = run_tool(f"dataset_converters/{tool}", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists()
    assert_error_line(error, tmp_path)
