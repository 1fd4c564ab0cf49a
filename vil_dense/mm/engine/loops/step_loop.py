"""Makes the step loop of MMEngine 0.10 resume without reading earlier batches, as newer versions do."""

from collections.abc import Iterator
from typing import Any

from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler


class ResumedBatches:
    """Yields None for each of the first `done` steps without reading anything, and batches from there on.

    The sampler of `loader` has skipped the samples of those steps. Loader processes start with the first batch that is
    read, after all hooks had the chance to configure them.
    """

    def __init__(self, loader: DataLoader, done: int) -> None:
        self.loader, self.remaining = loader, done
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> "ResumedBatches":
        return self

    def __next__(self) -> Any:
        if self.remaining:
            self.remaining -= 1
            return None
        if self._iterator is None:
            self.loader._iterator = None  # persistent workers that started before the hooks
            self._iterator = iter(self.loader)
        return next(self._iterator)


def start_at_step(loop: BaseLoop) -> None:
    """Makes a step loop skip the batches of earlier steps, unless its version of MMEngine does so itself."""
    if not isinstance(loop, IterBasedTrainLoop) or hasattr(loop.dataloader_iterator, "skip_iter"):
        return
    if isinstance(loop.dataloader.sampler, KeyedInfiniteSampler):
        loop.dataloader.sampler.skip(loop.iter * loop.dataloader.batch_size)
        loop.dataloader_iterator = ResumedBatches(loop.dataloader, loop.iter)
