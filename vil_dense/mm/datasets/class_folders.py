"""Reads labelled pictures from folders of classes, from ImageNet's flat validation folder, or from a list."""

import os
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.pictures import SUFFIXES
from vil_dense.mm.datasets.retry import read_with_retry

DEVKIT = "ILSVRC2012_devkit_t12/data"
HOW_TO_GET = (
    "ImageNet-1K is at https://image-net.org after registration: unpack the training tars to train/WNID/*.JPEG and the "
    "validation tar to val/ beside ILSVRC2012_devkit_t12, and set data_root to the folder that holds them"
)


@DATASETS.register_module()
class LabelledPictures(BaseDataset):
    """Reads the pictures of `data_root/split`, each with the index of its class.

    Labels come from one of three sources: the list `ann_file`, if it is given; the sorted names of the folders in the
    split, one for each class; or, in a flat folder, ImageNet's devkit in `data_root/ILSVRC2012_devkit_t12`, whose
    class numbers are converted to the order of the sorted WordNet ids. Other arguments: see mmengine's `BaseDataset`.

    Args:
        split: a folder below `data_root`.
        ann_file: below `data_root`; a line for each picture, its path below the split and the index of its class.
        num_classes: classes of the model; a data set with another number is an error.
        first: only the first so many classes (in sorted order) are read.

    Raises:
        FileNotFoundError: the root, the split or the list does not exist, or a folder has no pictures.
        ValueError: the number of classes is wrong, or the list or devkit does not fit; names the file.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        ann_file: str = "",
        num_classes: int | None = None,
        first: int | None = None,
        **options: Any,
    ) -> None:
        self.split, self.num_classes, self.first = split, num_classes, first
        super().__init__(data_root=data_root, ann_file=ann_file, **options)

    def load_data_list(self) -> list[dict]:
        folder = Path(self.data_root) / self.split
        for what, path in (("data root", self.data_root), ("folder", folder), ("list", self.ann_file)):
            if path and not os.path.exists(path):
                raise FileNotFoundError(f"LabelledPictures found no {what} at {path}: {HOW_TO_GET}")
        classes, pairs = self._read(folder)
        if self.first is not None:
            classes, pairs = classes[: self.first], [pair for pair in pairs if pair[1] < self.first]
        if self.num_classes is not None and len(classes) != self.num_classes:
            raise ValueError(
                f"{folder} holds {len(classes)} classes and the model has num_classes={self.num_classes}: "
                "set model.num_classes, or correct the folders"
            )
        self._metainfo["classes"] = tuple(classes)
        return [dict(img_path=path, label=label) for path, label in pairs]

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on a sample; waits while its file is unreachable."""
        picture = self.get_data_info(idx)
        return read_with_retry(lambda: self.pipeline(picture.copy()), [picture["img_path"]])

    def _read(self, folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
        """Returns the names of the classes, and (path, class index) of all pictures."""
        if self.ann_file:
            return self._from_list(folder)
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if names:
            return names, from_folders(folder, names[: self.first])
        devkit = Path(self.data_root) / DEVKIT
        if not devkit.is_dir():
            raise FileNotFoundError(
                f"LabelledPictures found neither class folders in {folder} nor the devkit that labels a flat one at "
                f"{devkit}: {HOW_TO_GET}"
            )
        return from_devkit(folder, devkit)

    def _from_list(self, folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
        pairs = []
        for number, line in enumerate(Path(self.ann_file).read_text().splitlines(), 1):
            name, _, label = line.strip().rpartition(" ")
            if not label:
                continue
            if not name or not label.isdecimal() or int(label) >= (self.num_classes or int(label) + 1):
                raise ValueError(
                    f"{self.ann_file}, line {number}: expected a picture and the index of its class, "
                    f"0 to {(self.num_classes or 1000) - 1}, got {line.strip()!r}"
                )
            pairs.append((str(folder / name), int(label)))
        count = self.num_classes or 1 + max((label for _, label in pairs), default=-1)
        return [str(index) for index in range(count)], pairs


def check_loaders(train: DataLoader, val: DataLoader | None) -> None:
    """Raises ValueError if training has less than a batch, or validation has other class folders than training."""
    if not isinstance(train.dataset, LabelledPictures):
        return
    if len(train) == 0:
        raise ValueError(
            f"{train.dataset.data_root}/{train.dataset.split} holds {len(train.dataset)} pictures, "
            f"less than a batch of {train.batch_size} for each process: set train_dataloader.batch_size"
        )
    if val is None or not isinstance(val.dataset, LabelledPictures) or train.dataset.ann_file or val.dataset.ann_file:
        return
    check_same_classes(train.dataset, val.dataset)


def check_same_classes(train: LabelledPictures, val: LabelledPictures) -> None:
    """Raises ValueError if two splits have other class folders."""
    if others := sorted({*train.metainfo["classes"]} ^ {*val.metainfo["classes"]}):
        raise ValueError(
            f"{val.data_root}/{val.split} differs from training in its classes: "
            f"{', '.join(others[:3])} {'are' if len(others) > 1 else 'is'} in one of them only"
        )


def pictures_in(folder: Path) -> list[str]:
    """Returns the sorted paths of the pictures directly in `folder`; raises FileNotFoundError if there are none."""
    found = sorted(entry.path for entry in os.scandir(folder) if entry.name.lower().endswith(SUFFIXES))
    if not found:
        raise FileNotFoundError(f"no pictures in {folder} (searched for {' '.join(SUFFIXES)})")
    return found


def from_folders(folder: Path, names: list[str]) -> list[tuple[str, int]]:
    """Returns (path, index in `names`) of the pictures in the folders `names`."""
    return [(path, label) for label, name in enumerate(names) for path in pictures_in(folder / name)]


def from_devkit(folder: Path, devkit: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Returns the sorted WordNet ids, and (path, index among them) of ImageNet's validation pictures.

    `meta.mat` gives each class a number from 1 that does not follow the sorted ids; the ground truth lists these
    numbers in the order of the pictures' names.
    """
    from scipy.io import loadmat

    truth_file, meta_file = devkit / "ILSVRC2012_validation_ground_truth.txt", devkit / "meta.mat"
    for path in (truth_file, meta_file):
        if not path.exists():
            raise FileNotFoundError(f"LabelledPictures found no {path.name} at {path}: {HOW_TO_GET}")
    synsets = loadmat(meta_file, squeeze_me=True)["synsets"]
    leaves = synsets[synsets["num_children"] == 0]
    wnid_of = {int(number): str(wnid) for number, wnid in zip(leaves["ILSVRC2012_ID"], leaves["WNID"], strict=True)}
    names = sorted(wnid_of.values())
    index_of = {number: names.index(wnid) for number, wnid in wnid_of.items()}
    numbers = [int(line) for line in truth_file.read_text().split()]
    paths = pictures_in(folder)
    if len(paths) != len(numbers):
        raise ValueError(f"{folder} holds {len(paths)} pictures and {truth_file} labels {len(numbers)}")
    return names, [(path, index_of[number]) for path, number in zip(paths, numbers, strict=True)]
