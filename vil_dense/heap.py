"""Lets glibc keep the memory that a program frees, so that each step need not ask the system for it again.

glibc maps a block of 32 MiB or more on its own and returns it as soon as it is freed, and it returns the end of its
heap. The system then clears the same pages in every step, which took a quarter of a training step of ViLUNet3D on 96^3
voxels (`configs/results/README.md`, "Speed and memory").
"""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
TRIMMED = 2**30
"""Free memory at the end of the heap from which it is returned, after `keep_freed_memory`, bytes."""
KEPT = 2**29
"""Size from which a block is mapped on its own, after `keep_freed_memory`, bytes. With 2**27 volumes took no longer,
but UperNet with 150 classes on two pictures of 512 x 512 px did."""

_mapped_from = 2**25


def keep_freed_memory() -> None:
    """Makes glibc keep freed blocks below `KEPT`; does nothing with another C library.

    The heap has gaps, so that a step holds up to 1.5 times the memory. Call it before tensors are made. Settings of
    malloc in the environment (`MALLOC_...`, `GLIBC_TUNABLES`) have priority.
    """
    global _mapped_from
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):  # macOS and musl have no mallopt, Windows no CDLL(None)
        return
    if mallopt(M_MMAP_THRESHOLD, KEPT) and mallopt(M_TRIM_THRESHOLD, TRIMMED):
        _mapped_from = KEPT


def mapped_from() -> int:
    """Returns the size from which a block is mapped on its own and returned as soon as it is freed, bytes."""
    return _mapped_from
