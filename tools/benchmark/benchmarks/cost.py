"""Compares the estimated memory and time of volume networks with measurements, each in processes of its own."""

import ctypes
import gc
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from vil_dense.files import save_csv
from vil_dense.heap import keep_freed_memory

NETWORKS: dict[str, dict[str, Any]] = {
    "ViLUNet3D": dict(channels=(32, 64, 128, 256), depths=(0, 0, 4, 2), deep_supervision=3),
    "ViLUNETR3D": dict(deep_supervision=2),
    "DynUNet": dict(
        kernel_size=[3] * 4,
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2] * 3,
        filters=[32, 64, 128, 256],
        res_block=True,
        deep_supervision=True,
        deep_supr_num=2,
    ),
}
PROCESSES = 3
"""Processes whose median is the estimate and the measurement: the gaps of a heap differ from process to process."""
WARM_UP_VOX = 16
"""Side of the patch on which the libraries of a process are loaded before the measurement."""
HEADER = ("network", "what", "GiB estimated", "GiB measured", "ratio", "CPU s estimated", "CPU s measured", "ratio")


def run_cost(names: Sequence[str], sizes: Sequence[str], out: Path) -> int:
    """Measures the named networks, or all, prints a Markdown table and writes it as cost.csv into `out`.

    Raises:
        ValueError: a network is unknown.
    """
    if unknown := sorted({*names} - {*NETWORKS}):
        raise ValueError(f"--contestants: no network {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    rows = []
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for size in sizes:
        side, batch = (int(number) for number in size.split("x"))
        for name in names or NETWORKS:
            for kind in (train, predict):
                rows.append(row(name, kind, side, batch))
                print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    keys = [*HEADER[:4], "ratio of memory", *HEADER[5:7], "ratio of time"]
    save_csv(out / "cost.csv", [dict(zip(keys, values, strict=True)) for values in rows])
    return 0


Measure = Callable[[str, int, int], tuple[float, float, float, float]]


def row(name: str, kind: Measure, side: int, batch: int) -> tuple[Any, ...]:
    """Runs a measurement in `PROCESSES` new processes, one after another, and returns a line of the table."""
    fresh, found = multiprocessing.get_context("spawn"), []
    for _ in range(PROCESSES):
        with ProcessPoolExecutor(1, fresh, keep_freed_memory) as pool:
            found.append(pool.submit(kind, name, side, batch).result())
    memory, measured_memory, seconds, measured_seconds = map(statistics.median, zip(*found, strict=True))
    numbers = (f"{memory:.2f}", f"{measured_memory:.2f}", f"{memory / measured_memory:.2f}")
    times = (f"{seconds:.2f}", f"{measured_seconds:.2f}", f"{seconds / measured_seconds:.2f}")
    return (name, f"{kind.__name__}, {batch} x {side}^3", *numbers, *times)


def plan_of(side: int) -> dict[str, Any]:
    """Returns a plan of three classes with a cube as patch."""
    return dict(
        channels=["MR"],
        labels=dict(background=0, one=1, two=2),
        orientation="RAS",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_vox=(side,) * 3,
        intensity=[dict(rule="zscore")],
    )


def train(name: str, side: int, batch: int) -> tuple[float, float, float, float]:
    """Returns estimated and measured GiB, estimated and measured CPU seconds, of a training step with AdamW."""
    import torch
    from monai.losses import DeepSupervisionLoss
    from torch import nn

    from vil_dense.cost.memory import GIB
    from vil_dense.cost.step_cost import activation_bytes, step_seconds
    from vil_dense.medical.data.plan_sizes import STATES, empty_step
    from vil_dense.medical.losses import loss_of
    from vil_dense.medical.networks.nets import build_network, logits_of

    def steps(side: int, count: int) -> tuple[nn.Module, float]:
        plan = plan_of(side)
        network, loss = build_network(plan, name, **NETWORKS[name]), DeepSupervisionLoss(loss_of(plan))
        optimizer, times = torch.optim.AdamW(network.parameters()), []
        for _ in range(count):
            start = time.process_time()
            image, label = torch.randn(batch, 1, *(side,) * 3), torch.randint(3, (batch, 1, *(side,) * 3)).float()
            loss(logits_of(network(image)), label).backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.process_time() - start)
        return network, min(times[1:])

    steps(WARM_UP_VOX, 2)
    before = baseline()
    measured = steps(side, 5)[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    network, run = build_network(plan_of(side), name, **NETWORKS[name]), partial(empty_step, channels=1)
    weights = STATES * sum(x.nbytes for x in network.parameters())
    memory = weights + activation_bytes(network, run, batch, (side,) * 3, backward=True)
    seconds = step_seconds(network, run, batch, (side,) * 3, backward=True).of(batch, (side,) * 3)
    return memory / GIB, peak / GIB, seconds, measured


def predict(name: str, side: int, batch: int) -> tuple[float, float, float, float]:
    """Returns the same of the prediction of a file half as long again as the windows, from reading to the mask."""
    import nibabel
    import numpy as np

    from vil_dense.cost.memory import GIB
    from vil_dense.medical.inference.volume_memory import estimate, window_seconds
    from vil_dense.medical.inference.volume_predictor import predict as mask_of
    from vil_dense.medical.inference.volume_windows import SlidingWindow
    from vil_dense.medical.io.volumes import read_grid, read_image
    from vil_dense.medical.networks.nets import build_network

    def segment(side: int) -> float:
        plan = plan_of(side)
        network = build_network(plan, name, **NETWORKS[name]).eval()
        image, grid = read_image([path])
        start = time.process_time()
        mask_of([network], image, grid.affine, plan, SlidingWindow.of(plan, batch=batch))
        return time.process_time() - start

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii"
        for length in (WARM_UP_VOX, side * 3 // 2):
            voxels = np.random.default_rng(0).normal(size=(length,) * 3).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
            del voxels
            if length == WARM_UP_VOX:
                segment(length)
        before = baseline()
        measured = segment(side)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        plan = plan_of(side)
        network, windows = build_network(plan, name, **NETWORKS[name]).eval(), SlidingWindow.of(plan, batch=batch)
        memory = estimate([network], read_grid(path), plan, windows).total
    seconds = window_seconds(network, 1, windows) * windows.count((side * 3 // 2,) * 3)
    return memory / GIB, peak / GIB, seconds, measured


def baseline() -> int:
    """Returns the resident bytes of the process after freed memory has gone back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
