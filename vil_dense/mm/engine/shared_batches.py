"""Lets loader processes report that their batches cannot be handed over, where torch would wait for ever.

torch moves a batch into shared memory in a thread of the loader process. An error of that thread is printed, the batch
is lost, and the training waits for it. Here the move is part of making the batch, so its errors reach the training.
"""

import multiprocessing
import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

FEWEST_FILES = 256
"""Open files below which no loader process is started: two for each picture of the batches that wait."""


def share_batches(loader: DataLoader) -> DataLoader:
    """Returns the loader, whose processes put the tensors of each batch into shared memory before they send it.

    Raises:
        ValueError: there are loader processes, and the system has no shared memory or too few open files for them.
    """
    if loader.num_workers:
        _check_system()
        loader.collate_fn = partial(_collate_shared, loader.collate_fn)
    return loader


def _collate_shared(collate: Callable[[Any], Any], samples: Any) -> Any:
    batch = collate(samples)
    _Sharer(_Nowhere()).dump(batch)
    return batch


class _Nowhere:
    """Is a file that keeps nothing."""

    def write(self, content: bytes) -> int:
        """Returns the number of bytes that it was given."""
        return len(content)


class _Sharer(pickle.Pickler):
    """Finds the tensors of a batch of any structure, as the pickler does that sends it, and moves each."""

    def persistent_id(self, value: Any) -> bool | None:
        """Returns None for what is no tensor: it is looked into."""
        if not isinstance(value, Tensor):
            return None
        if value.device.type == "cpu" and value.layout == torch.strided and value.untyped_storage().nbytes():
            value.share_memory_()
        return True


def _check_system() -> None:
    instead = "or set num_workers=0 in the dataloaders"
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise ValueError(
            f"loader processes need shared memory, and /dev/shm cannot be used ({error.strerror}): mount it "
            f"(docker run --shm-size=8g), {instead}"
        ) from None
    if sys.platform != "win32":
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= files < FEWEST_FILES:
            raise ValueError(
                f"loader processes need {FEWEST_FILES} open files or more, and this process may have {files}: "
                f"ulimit -n 1024, {instead}"
            )
