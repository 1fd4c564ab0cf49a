"""Tests labelled pictures: folders, the devkit's own numbers, lists, subsets; what does not fit is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import raises_one_line
from scipy.io import savemat
from torch.utils.data import DataLoader, Subset

from vil_dense.mm.datasets.class_folders import DEVKIT, LabelledPictures, check_loaders

WNIDS = ("n03", "n01", "n02")  # by ILSVRC number 1, 2, 3


def write(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value,) * 3).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Writes three classes with two training pictures each."""
    for wnid in WNIDS:
        for n in range(2):
            write(tmp_path / f"train/{wnid}/{wnid}_{n}.JPEG")
    return tmp_path


def write_devkit(root: Path, truth: list[int]) -> None:
    """Writes `meta.mat` as ImageNet's: leaves with numbers from 1, and one synset above them."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(n + 1, wnid, f"words of {wnid}", 0) for n, wnid in enumerate(WNIDS)] + [(4, "n00", "entity", 3)]
    (root / DEVKIT).mkdir(parents=True)
    savemat(root / DEVKIT / "meta.mat", dict(synsets=np.array(rows, dtype=fields).reshape(-1, 1)))
    (root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, truth)) + "\n")


def labels(dataset: LabelledPictures) -> list[tuple[str, int]]:
    infos = [dataset.get_data_info(n) for n in range(len(dataset))]
    return [(Path(info["img_path"]).name, info["label"]) for info in infos]


def test_folders_in_sorted_order(root: Path):
    dataset = LabelledPictures(str(root), "train", num_classes=3)
    assert dataset.metainfo["classes"] == ("n01", "n02", "n03")
    assert labels(dataset)[:3] == [("n01_0.JPEG", 0), ("n01_1.JPEG", 0), ("n02_0.JPEG", 1)] and len(dataset) == 6


def test_first_classes(root: Path):
    dataset = LabelledPictures(str(root), "train", first=2, num_classes=2)
    assert dataset.metainfo["classes"] == ("n01", "n02") and [label for _, label in labels(dataset)] == [0, 0, 1, 1]


def test_flat_folder_with_the_devkit(root: Path):
    """Takes numbers 1, 2, 3 for n03, n01, n02: in sorted order 2, 0, 1."""
    write_devkit(root, [3, 1, 2, 1])
    for n in range(4):
        write(root / f"val/ILSVRC2012_val_{n + 1:08d}.JPEG")
    dataset = LabelledPictures(str(root), "val", num_classes=3)
    assert dataset.metainfo["classes"] == ("n01", "n02", "n03")
    assert labels(dataset) == [(f"ILSVRC2012_val_{n + 1:08d}.JPEG", label) for n, label in enumerate((1, 2, 0, 2))]
    assert [label for _, label in labels(LabelledPictures(str(root), "val", first=2))] == [1, 0]


def test_flat_folder_that_does_not_fit_the_devkit(root: Path):
    write_devkit(root, [3, 1])
    write(root / "val/a.JPEG")
    with raises_one_line(ValueError, root / "val", "1", "ground_truth.txt", "2"):
        LabelledPictures(str(root), "val")
    (root / DEVKIT / "meta.mat").unlink()
    with raises_one_line(FileNotFoundError, "/meta.mat"):
        LabelledPictures(str(root), "val")


def test_flat_folder_without_a_devkit(root: Path):
    write(root / "val/a.JPEG")
    with raises_one_line(FileNotFoundError, root / "val"):
        LabelledPictures(str(root), "val")


def test_list(root: Path):
    write(root / "val/a b.JPEG")
    (root / "val.txt").write_text("a b.JPEG 2\n\na b.JPEG 0\n")
    dataset = LabelledPictures(str(root), "val", ann_file="val.txt", num_classes=3)
    assert labels(dataset) == [("a b.JPEG", 2), ("a b.JPEG", 0)] and len(dataset.metainfo["classes"]) == 3
    with raises_one_line(ValueError, "val.txt", "line 1", "a b.JPEG 2"):
        LabelledPictures(str(root), "val", ann_file="val.txt", num_classes=2)
    (root / "val.txt").write_text("a.JPEG n01\n")
    with raises_one_line(ValueError, "val.txt", "line 1", "a.JPEG n01"):
        LabelledPictures(str(root), "val", ann_file="val.txt")


@pytest.mark.parametrize(("change", "count"), [("missing", 2), ("extra", 4)])
def test_another_number_of_classes(change: str, count: int, root: Path):
    if change == "extra":
        write(root / "train/n04/a.JPEG")
    else:
        for path in (root / "train/n02").iterdir():
            path.unlink()
        (root / "train/n02").rmdir()
    with raises_one_line(ValueError, root / "train", count, "num_classes=3"):
        LabelledPictures(str(root), "train", num_classes=3)


def loader(root: Path, split: str, batch_size: int = 2) -> DataLoader:
    return DataLoader(LabelledPictures(str(root), split), batch_size, drop_last=split == "train")


def test_less_than_a_batch_is_told(root: Path):
    with raises_one_line(ValueError, root / "train", "6", "7"):
        check_loaders(loader(root, "train", 7), None)


def test_other_classes_in_validation_are_told(root: Path):
    for wnid in ("n01", "n02", "n04"):
        write(root / f"val/{wnid}/a.JPEG")
    with raises_one_line(ValueError, root / "val", "n03, n04"):
        check_loaders(loader(root, "train"), loader(root, "val"))
    (root / "val/n04").rename(root / "val/n03")
    check_loaders(loader(root, "train"), loader(root, "val"))


def test_wrapped_validation_data_are_not_checked(root: Path):
    write(root / "val/n04/a.JPEG")
    whole = LabelledPictures(str(root), "val")
    check_loaders(loader(root, "train"), DataLoader(Subset(whole, [0])))


def test_missing_data_is_told(root: Path):
    for args, what in (
        ((str(root / "gone"), "train"), f"data root at {root}/gone"),
        ((str(root), "gone"), f"folder at {root}/gone"),
    ):
        with raises_one_line(FileNotFoundError, "LabelledPictures", what, "ImageNet-1K"):
            LabelledPictures(*args)
    with raises_one_line(FileNotFoundError, "/none.txt"):
        LabelledPictures(str(root), "train", ann_file="none.txt")
    (root / "train/n04").mkdir()
    with raises_one_line(FileNotFoundError, root / "train/n04", ".bmp"):
        LabelledPictures(str(root), "train")
