"""Describes what a measurement was made with: versions of packages, the processor, commits."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("torch", "triton", "vil_dense", "einops", "mlstm_kernels", "onedl-mmsegmentation")


def versions() -> dict[str, str | None]:
    """Returns the versions of Python, CUDA, and those of `PACKAGES` that are installed."""
    found = dict(python=platform.python_version(), cuda=torch.version.cuda)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """Returns the name of the GPU with its memory and driver, or the name of the CPU."""
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        driver = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"
        about = dict(memory_gib=round(card.total_memory / 2**30, 1), compute_capability=f"{card.major}.{card.minor}")
        return dict(device=card.name, gpu=about | dict(driver=driver.splitlines()[0]))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return dict(device=next((x.split(": ")[1] for x in lines if x.startswith("model name")), platform.processor()))


def output(*command: str, folder: Path | None = None) -> str | None:
    """Returns what a command prints; None if it fails."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def commit(folder: Path) -> str | None:
    """Returns the commit of a checkout, with a + where files differ from it; None without git."""
    head = output("git", "rev-parse", "HEAD", folder=folder)
    changes = output("git", "status", "--porcelain", "--untracked-files=no", folder=folder)
    return head and head.strip() + "+" * bool(changes)
