"""Holds the settings of one part of a measurement on a GPU: device, time limit, and toy or real sizes."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import TimeoutError, get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants.case import Case, Contestant, LeftOut
from benchmarks.contestants.table import Make
from benchmarks.measure import Result, say

SHARE = 0.75
"""Part of the memory that matrices of S x S may take."""


@dataclass(frozen=True)
class Session:
    """Holds the settings of one part. `deadline` is a value of time.monotonic; `dry` asks for toy sizes."""

    out: Path
    device: torch.device
    dry: bool
    deadline: float
    official: str | None = None

    @property
    def left(self) -> float:
        """Returns the seconds until the deadline."""
        return self.deadline - time.monotonic()

    def case(self, mode: str, **fields: Any) -> Case:
        """Builds a case with the settings of the session."""
        fixed = dict(variant="vil2-tiny", device=self.device, official=self.official, memory_limit=SHARE * self.memory)
        return Case(mode=mode, **{**fixed, **fields})

    @property
    def memory(self) -> float:
        """Returns the bytes of the device."""
        if self.device.type == "cuda":
            return float(torch.cuda.get_device_properties(self.device).total_memory)
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    def in_time(self, make: Make) -> Make:
        """Returns `make`, which leaves its contestant out once the time is over."""

        def made(case: Case) -> Contestant:
            if self.left < 0:
                raise LeftOut("the time of this part was over")
            return make(case)

        return made

    def say(self, line: str) -> None:
        """Prints an indented line."""
        say(f"  {line}")


def in_parallel(
    session: Session, function: Callable[..., list[Result]], jobs: Sequence[tuple[Any, ...]]
) -> Iterator[Result]:
    """Yields the rows of `function(session, *job)` of all jobs, as they end; each job is a process of its own.

    Most of such a job is the compilation of kernels on one core, and an illegal access to memory ends all of a process.
    """
    if session.dry:
        for job in jobs:
            yield from function(session, *job)
        return
    count = min(len(jobs), os.cpu_count() or 1)
    with get_context("spawn").Pool(count, maxtasksperchild=1) as pool:
        ended = pool.imap_unordered(partial(_run, session, function), jobs)
        for _ in jobs:
            try:
                yield from ended.next(timeout=max(0.1, session.left))
            except TimeoutError:
                session.say("its time is over")
                return


def _run(session: Session, function: Callable[..., list[Result]], job: tuple[Any, ...]) -> list[Result]:
    return function(session, *job)


def set_precision(dtype: torch.dtype) -> None:
    """Allows TF32 beside half precision, as trainings do, and not in float32, which is held to float64."""
    exact = dtype == torch.float32
    torch.backends.cudnn.allow_tf32 = not exact
    torch.set_float32_matmul_precision("highest" if exact else "high")
