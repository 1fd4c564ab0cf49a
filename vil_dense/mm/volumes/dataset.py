"""Reads cases: patches for training, with or without labels, and whole volumes for validation and test."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from vil_dense.medical.cascade import with_masks
from vil_dense.medical.data.cases import Cases, Counts, check_cases, loaded_bytes, preprocessed_bytes, read_case
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.data.transforms import (
    augmentation,
    light_augmentation,
    sample_image,
    sample_patch,
    training_cases,
    unlabelled_cases,
)
from vil_dense.medical.datalists.datalist import Case, DataList, read_datalist
from vil_dense.medical.datalists.inputs import read_unlabelled
from vil_dense.medical.label_map import LabelMap
from vil_dense.mm.datasets.retry import read_with_retry
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.progress import Progress


def say(line: str) -> None:
    """Writes a line to the log of the run."""
    print_log(line, "current")


class _CaseDataset(Dataset):
    """Gives whole cases; waits while their files are unreachable."""

    cases: Cases

    def __len__(self) -> int:
        return len(self.cases)

    def _case(self, index: int) -> dict[str, Any]:
        source = self.cases.sources[index]
        masks = [source[key] for key in ("label", "first_stage") if key in source]
        return read_with_retry(lambda: self.cases[index], [*_images(source), *masks])


def _images(source: Mapping[str, Any]) -> list[str]:
    """Returns the image files of a case."""
    return source["image"] if isinstance(source["image"], list) else [source["image"]]


def _sample_key(index: int) -> tuple[int, int, int]:
    """Returns seed, epoch and index of a key of `KeyedInfiniteSampler`."""
    if not isinstance(index, SampleKey):
        raise ValueError("patches need the keys of a KeyedInfiniteSampler, got a plain index")
    return index.seed, index.epoch, int(index)


@DATASETS.register_module()
class VolumeDataset(_CaseDataset):
    """Gives the cases of a fold: for training random patches, else volumes as their files hold them.

    An index for training is a key of `KeyedInfiniteSampler`: a patch depends on seed, epoch and case alone.

    Args:
        data_root: folder, see `medical.datalists.datalist.read_datalist`.
        plan: mapping or path, see `medical.data.plan_schema`.
        datalist: JSON in place of the folder's own list.
        fold: validation fold; training takes the others. None takes all cases. "all" does so for a training, and leaves
            none to validate.
        patient: see `medical.datalists.folds.find_splits`.
        train: patches, else volumes.
        augment: options of `medical.data.transforms.augmentation`.
        cache_gib: cap on the cases held in memory, GiB: preprocessed ones for training, else as they are read.
        check_s: how long files are read and checked first, s; None reads none. Configs say `label_check`.
        cascade: folder of the cross-validation whose masks the patches of a second stage have as further channels, see
            `medical.cascade.with_masks`.

    Raises:
        ValueError, FileNotFoundError: a fault of the data, the case named.
    """

    def __init__(
        self,
        data_root: str,
        plan: Mapping[str, Any] | str,
        datalist: str | None = None,
        fold: int | str | None = 0,
        patient: str | None = None,
        train: bool = True,
        augment: Mapping[str, Any] | None = None,
        cache_gib: float = 4.0,
        check_s: float | None = math.inf,
        cascade: str | None = None,
    ) -> None:
        self.plan = plan = read_plan(plan)
        listed = read_datalist(data_root, datalist, patient=patient)
        cases = _cases_of(listed, fold, train)
        if train and cascade is not None:
            cases = with_masks(cases, Path(cascade), patient)
        if train:
            for line in listed.unread:
                say(f"warning: {line}")
        if check_s is not None:
            _check(cases, plan, "training" if train else "validation", check_s)
        self.augment = augmentation(plan, **(augment or {})) if train else None
        transform, size = (training_cases(plan), preprocessed_bytes) if train else (self._read, loaded_bytes)
        sizes = [size(case, plan) for case in cases]
        self.cases = Cases(cases, transform, sizes, cache_gib, Progress("reading", say), say)
        self.metainfo = dict(classes=tuple(plan["labels"]))

    @property
    def image_files(self) -> list[str]:
        """Lists the image files of all cases."""
        return [path for source in self.cases.sources for path in _images(source)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a case.

        For training `name`, `image` (C, *patch) float32 and `label` (1, *patch) int64, tensors on the plan's grid. Else
        `name`, `image` (C, I, J, K) float32, `label` (I, J, K) uint8 or uint16 and `affine` (4, 4), voxels to mm: NumPy
        arrays on the file's grid, which `pseudo_collate` leaves in the memory of the CPU.
        """
        if self.augment is None:
            return self._case(index)
        key, case = _sample_key(index), self._case(index)
        return dict(sample_patch(self.augment, case, *key), name=case["name"])

    def _read(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Reads a whole case."""
        plan = self.plan
        nan = plan.get("nan_background")
        image, label, grid = read_case(
            Case.from_dict(source), len(plan["channels"]), LabelMap.of(plan).file_values, nan
        )
        return dict(name=source["name"], image=image, label=label, affine=grid.affine)


def _cases_of(listed: DataList, fold: int | str | None, train: bool) -> list[Case]:
    """Returns the cases of one part of a fold, see `VolumeDataset`."""
    if fold == "all" and not train:
        raise ValueError(
            "fold=all holds no case out, so there is none to validate or to test on: choose a fold, or score the masks "
            "of other cases with tools/volumes/evaluate.py"
        )
    if fold is None or fold == "all":
        return list(listed.cases)
    if not isinstance(fold, int):
        raise ValueError(f"fold is a number, or all to train on every case, got {fold!r}")
    return listed.split(fold)[0 if train else 1]


def _check(cases: Sequence[Case], plan: Mapping[str, Any], part: str, seconds: float) -> None:
    """Reads cases and logs the classes of their labels.

    Raises:
        ValueError: cases that cannot be used.
    """
    counts = Counts(plan)
    known = LabelMap.of(plan)
    nan = plan.get("nan_background")
    for line in check_cases(
        cases, len(plan["channels"]), known.file_values, Progress("checking", say), counts, seconds, nan
    ):
        say(f"warning: {line}")
    say(counts.table(f"labels of the {part} cases: {counts.read} of {len(cases)} read, evenly spread"))
    absent = counts.absent()
    if part == "training" and counts.read == len(cases) and len(absent) >= len(known.values) - 1:
        raise ValueError(f"every voxel of the {len(cases)} {part} cases is of one class: nothing to learn")
    if absent:
        say(f"warning: no voxel that was read is of {', '.join(absent)}")


@DATASETS.register_module()
class UnlabelledVolumes(_CaseDataset):
    """Gives a random patch of each volume of a folder; labels beside them are not read.

    A patch depends on seed, epoch and case alone, as that of a `VolumeDataset` does.

    Args:
        data_root: a folder of volumes, or a data set, see `medical.datalists.inputs.read_unlabelled`.
        plan: mapping or path, see `medical.data.plan_schema`.
        datalist: JSON in place of the folder's own list.
        cache_gib: cap on the preprocessed cases held in memory, GiB.
        check_s: how long files are read and checked first, s; None reads none.

    Raises:
        ValueError, FileNotFoundError: a fault of the data, the case named.
    """

    def __init__(
        self,
        data_root: str,
        plan: Mapping[str, Any] | str,
        datalist: str | None = None,
        cache_gib: float = 4.0,
        check_s: float | None = math.inf,
    ) -> None:
        plan = read_plan(plan)
        channels = len(plan["channels"])
        cases = read_unlabelled(data_root, datalist, channels).cases
        if check_s is not None:
            nan = plan.get("nan_background")
            for line in check_cases(cases, channels, (), Progress("checking", say), seconds=check_s, nan=nan):
                say(f"warning: {line}")
        say(f"volumes without labels: {len(cases)} cases below {data_root}")
        self.augment = light_augmentation(plan)
        sizes = [preprocessed_bytes(case, plan) for case in cases]
        self.cases = Cases(cases, unlabelled_cases(plan), sizes, cache_gib, Progress("reading", say), say)
        self.metainfo: dict[str, Any] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns `name` and `image`, a patch (C, *patch) float32 on the plan's grid."""
        key, case = _sample_key(index), self._case(index)
        return dict(image=sample_image(self.augment, case, *key), name=case["name"])
