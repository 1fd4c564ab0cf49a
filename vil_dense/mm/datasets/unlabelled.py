"""Registers a data set of pictures without labels, and checks its files before the first step."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from vil_dense.files import describe_skipped, sample_evenly
from vil_dense.mm.datasets.folders.layouts import WORDS
from vil_dense.mm.datasets.pictures import SUFFIXES, pictures_below
from vil_dense.mm.datasets.retry import read_with_retry
from vil_dense.mm.datasets.transforms.imagenet import LoadPicture
from vil_dense.mm.datasets.wrappers import parts

SHOWN = 5


@DATASETS.register_module()
class UnlabelledPictures(BaseDataset):
    """Reads all pictures below `data_root`, of any size and in any folders; hidden files and folders are left out.

    The log says how many there are in which folders, and what is no picture. Other arguments: see mmengine's
    `BaseDataset`.

    Raises:
        FileNotFoundError: there is no such folder, or no picture below it.
    """

    def __init__(self, data_root: str, **options: Any) -> None:
        super().__init__(data_root=data_root, **options)

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_root)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder at {root}: set train_dataloader.dataset.data_root to your pictures")
        paths = [str(path) for path in pictures_below(root)]
        if not paths:
            raise FileNotFoundError(f"no pictures below {root} (searched for {' '.join(SUFFIXES)})")
        for line in (describe_folders(root, paths), describe_skipped(root, paths)):
            if line:
                print_log(line, "current")
        return [dict(img_path=path) for path in paths]

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on a sample; waits while its file is unreachable."""
        picture = self.get_data_info(idx)
        return read_with_retry(lambda: self.pipeline(picture.copy()), [picture["img_path"]])


def describe_folders(root: Path, paths: list[str]) -> str:
    """Returns a line on the number of pictures in each folder; a warning if one is named like a folder of masks."""
    counts = Counter(os.path.relpath(os.path.dirname(path), root) for path in paths)
    largest = ", ".join(f"{count} in {folder}" for folder, count in counts.most_common(SHOWN))
    more = f" and {len(counts) - SHOWN} more folders" if len(counts) > SHOWN else ""
    line = f"pictures: {len(paths)} below {root}" + f" ({largest}{more})" * (counts.keys() != {"."})
    masks = sorted(folder for folder in counts if set(Path(folder).parts) & set(WORDS["masks"]))
    if not masks:
        return line
    return f"{line}\nwarning: {masks[0]} has the name of a folder of masks; set data_root to the folder of the pictures"


def check_pictures(loader: DataLoader, label_check: Mapping[str, Any] | None) -> str:
    """Reads evenly spread pictures for the time that `label_check` gives, and returns a line for the log.

    Other data sets are left alone, with an empty line.

    Raises:
        ValueError: pictures cannot be read, the first ones are named; or there are fewer than a batch.
    """
    whole: Any = loader.dataset
    dataset = next(parts(whole))
    if not isinstance(dataset, UnlabelledPictures):
        return ""
    if len(whole) < (loader.batch_size or 1) and loader.drop_last:
        raise ValueError(
            f"{dataset.data_root} holds {len(whole)} pictures, less than a batch of {loader.batch_size}: "
            "set train_dataloader.batch_size"
        )
    if label_check is None:
        return ""
    end, load = time.monotonic() + label_check.get("seconds", 60), LoadPicture()
    faults, read, sides = [], 0, []
    for index in sample_evenly(len(dataset)):
        try:
            sides.append(min(load.transform(dataset.get_data_info(index))["img"].size))
        except ValueError as error:
            faults.append(str(error))
        read += 1
        if time.monotonic() > end:
            break
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(
            f"{len(faults)} of {read} pictures that were read cannot be used: {'; '.join(faults[:SHOWN])}{more}"
        )
    return f"pictures: {read} of {len(dataset)} read, evenly spread; short sides of {min(sides)} to {max(sides)} px"
