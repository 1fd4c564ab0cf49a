"""Gives random patches of volumes without labels."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from vil_dense.medical.data.cache import Cases, preprocessed_bytes
from vil_dense.medical.data.checks import check_cases
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.data.transforms import light_augmentation, sample_image, unlabelled_cases
from vil_dense.medical.datalists.inputs import read_unlabelled
from vil_dense.mm.datasets.retry import read_with_retry
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.volumes.dataset import say
from vil_dense.progress import Progress


@DATASETS.register_module()
class UnlabelledVolumes(Dataset):
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

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns `name` and `image`, a patch (C, *patch) float32 on the plan's grid."""
        if not isinstance(index, SampleKey):
            raise ValueError("patches need the keys of a KeyedInfiniteSampler, got a plain index")
        source = self.cases.sources[index]
        images = source["image"] if isinstance(source["image"], list) else [source["image"]]
        case = read_with_retry(lambda: self.cases[index], images)
        return dict(image=sample_image(self.augment, case, index.seed, index.epoch, int(index)), name=case["name"])
