"""For MMEngine 0.10, the official release: its loop over steps made to begin where a run stopped, as newer ones do."""

from collections.abc import Iterator
from typing import Any

from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler


class Steps:
    """Batches from step `done` on; to the loop, which asks for those before too, they are None and nothing is read.

    Loader processes start with the first batch that is read, when all hooks have been asked what they should be like.
    """

    def __init__(self, loader: DataLoader, done: int) -> None:
        loader.sampler.skip(done * loader.batch_size)
        self.loader, self.passed = loader, done
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> "Steps":
        return self

    def __next__(self) -> Any:
        if self.passed:
            self.passed -= 1
            return None
        if self._iterator is None:
            self.loader._iterator = None  # of processes that stay, which began too early
            self._iterator = iter(self.loader)
        return next(self._iterator)


def start_at_step(loop: BaseLoop) -> None:
    """Before its first step: a loop over steps reads nothing twice, where its MMEngine has no such thing."""
    if not isinstance(loop, IterBasedTrainLoop) or hasattr(loop.dataloader_iterator, "skip_iter"):
        return
    if isinstance(loop.dataloader.sampler, KeyedInfiniteSampler):
        loop.dataloader_iterator = Steps(loop.dataloader, loop.iter)
