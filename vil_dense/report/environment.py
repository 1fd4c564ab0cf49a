"""Describes the programs and the machine that made a report."""

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import vil_dense

PACKAGES = ("torch", "mmengine", "mmcv", "mmsegmentation", "monai", "numpy")
MEBIBYTE = 2**20


def environment() -> dict[str, str]:
    """Returns versions, machine and memory, by name."""
    found = {"vil_dense": f"{vil_dense.__version__}{_revision()}", "Python": platform.python_version()}
    for package in PACKAGES:
        for name in (f"onedl-{package}", package):  # the maintained builds of OpenMMLab, and the official ones
            try:
                found[package] = version(name)
                break
            except PackageNotFoundError:
                continue
    found["system"] = platform.platform()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["processor"] = f"{platform.machine()}, {cores} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
        found["most GPU memory"] = f"{torch.cuda.max_memory_allocated() / MEBIBYTE:,.0f} MiB"
    found["most memory of the process"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"
    return found


def _revision() -> str:
    """Returns the git revision of this package; empty if it is not in a clone of its own.

    An installed package may lie in the environment of another project, whose clone git would describe.
    """
    root = Path(vil_dense.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    ask = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" ({done.stdout.strip()})"
