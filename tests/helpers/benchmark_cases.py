"""Makes small cases of the benchmark."""

from typing import Any

import torch
from benchmarks.contestants.case import Case

CPU = torch.device("cpu")


def case(**fields: Any) -> Case:
    fixed = dict(mode="train", variant="vil2-tiny", size=32, batch=1, device=CPU, dtype=torch.float32)
    return Case(**{**fixed, "memory_limit": 2.0**30, "dim": 32, "depth": 2, **fields})


def timed(family: str, seconds: float, mib: float) -> dict[str, Any]:
    """Returns what the benchmark keeps of a contestant that takes `seconds` and `mib` MiB."""
    spread = dict(median_s=seconds, min_s=seconds, quartiles_s=[seconds, seconds], repeats=1)
    return dict(family=family, checks=[], peak_bytes=round(mib * 2**20), **spread)
