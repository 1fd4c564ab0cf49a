"""Labelled pictures: folders, the devkit's own numbers, lists, subsets; what does not fit is said in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.class_folders import DEVKIT, LabelledPictures, check_loaders

WNIDS = ("n03", "n01", "n02")  # by ILSVRC number 1, 2, 3


def write(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value,) * 3).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes with two training pictures each."""
    for wnid in WNIDS:
        for n in range(2):
            write(tmp_path / f"train/{wnid}/{wnid}_{n}.JPEG")
    return tmp_path


def write_devkit(root: Path, truth: list[int]) -> None:
    """`meta.mat` as ImageNet's: leaves with numbers from 1, and one synset above them."""
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
    """Numbers 1, 2, 3 are n03, n01, n02: in sorted order 2, 0, 1."""
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
    with pytest.raises(ValueError, match=rf"^{root}/val holds 1 pictures and \S+ground_truth\.txt labels 2$"):
        LabelledPictures(str(root), "val")
    (root / DEVKIT / "meta.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"found no meta\.mat at \S+/meta\.mat: ImageNet-1K is at"):
        LabelledPictures(str(root), "val")


def test_flat_folder_without_a_devkit(root: Path):
    write(root / "val/a.JPEG")
    with pytest.raises(FileNotFoundError, match=rf"neither class folders in {root}/val nor the devkit .* ImageNet-1K"):
        LabelledPictures(str(root), "val")


def test_list(root: Path):
    write(root / "val/a b.JPEG")
    (root / "val.txt").write_text("a b.JPEG 2\n\na b.JPEG 0\n")
    dataset = LabelledPictures(str(root), "val", ann_file="val.txt", num_classes=3)
    assert labels(dataset) == [("a b.JPEG", 2), ("a b.JPEG", 0)] and len(dataset.metainfo["classes"]) == 3
    with pytest.raises(ValueError, match=r"val\.txt, line 1: expected a picture .*, 0 to 1, got 'a b\.JPEG 2'"):
        LabelledPictures(str(root), "val", ann_file="val.txt", num_classes=2)
    (root / "val.txt").write_text("a.JPEG n01\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 1: expected .* got 'a\.JPEG n01'"):
        LabelledPictures(str(root), "val", ann_file="val.txt")


@pytest.mark.parametrize(("change", "count"), [("missing", 2), ("extra", 4)])
def test_another_number_of_classes(change: str, count: int, root: Path):
    if change == "extra":
        write(root / "train/n04/a.JPEG")
    else:
        for path in (root / "train/n02").iterdir():
            path.unlink()
        (root / "train/n02").rmdir()
    with pytest.raises(ValueError, match=rf"^{root}/train holds {count} classes and the model has num_classes=3: set"):
        LabelledPictures(str(root), "train", num_classes=3)


def loader(root: Path, split: str, batch_size: int = 2) -> DataLoader:
    return DataLoader(LabelledPictures(str(root), split), batch_size, drop_last=split == "train")


def test_less_than_a_batch_is_told(root: Path):
    with pytest.raises(ValueError, match=rf"^{root}/train holds 6 pictures, less than a batch of 7 for each process: "):
        check_loaders(loader(root, "train", 7), None)


def test_other_classes_in_validation_are_told(root: Path):
    for wnid in ("n01", "n02", "n04"):
        write(root / f"val/{wnid}/a.JPEG")
    with pytest.raises(
        ValueError, match=rf"^{root}/val differs from training in its classes: n03, n04 are in one of them"
    ):
        check_loaders(loader(root, "train"), loader(root, "val"))
    (root / "val/n04").rename(root / "val/n03")
    check_loaders(loader(root, "train"), loader(root, "val"))


def test_missing_data_is_told(root: Path):
    for args, what in (
        ((str(root / "gone"), "train"), f"data root at {root}/gone"),
        ((str(root), "gone"), f"folder at {root}/gone"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"^LabelledPictures found no {what}: ImageNet-1K is at https"):
            LabelledPictures(*args)
    with pytest.raises(FileNotFoundError, match=r"found no list at \S+/none\.txt: "):
        LabelledPictures(str(root), "train", ann_file="none.txt")
    (root / "train/n04").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"^no pictures in {root}/train/n04 \(searched for \.bmp "):
        LabelledPictures(str(root), "train")
