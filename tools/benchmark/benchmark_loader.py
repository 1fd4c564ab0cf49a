"""Measures how many pictures per second a core loads and transforms.

Command: python tools/benchmark/benchmark_loader.py CONFIG [--pictures N] [--workers N]

Runs the training pipeline of a classifier's config in this process and prints each step's CPU time, then loads through
worker processes and prints what they reach together. A node needs (pictures a second of its GPUs) / (those of a core)
cores for loading.
"""

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from vil_dense.command_line import parser

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset


def step_times(dataset: "BaseDataset", count: int) -> dict[str, float]:
    """Measures the CPU seconds of each step of the pipeline for `count` samples, spread over the data set."""
    from vil_dense.mm.datasets.seeding import SampleKey

    seconds: dict[str, float] = defaultdict(float)
    for n in range(count):
        results = dataset.get_data_info(SampleKey(n * len(dataset) // count % len(dataset)))
        for step in dataset.pipeline.transforms:
            start = time.process_time()
            results = step(results)
            seconds[type(step).__name__] += time.process_time() - start
    return dict(seconds)


def loader_rate(dataset: "BaseDataset", count: int, workers: int) -> float:
    """Measures pictures per second of wall time with `workers` processes, without the first batches."""
    from torch.utils.data import DataLoader, default_collate

    from vil_dense.mm.datasets.seeding import SampleKey

    batch = max(count // 16, 1)
    keys = [SampleKey(n * len(dataset) // count % len(dataset)) for n in range(count)]
    loader = DataLoader(dataset, batch, sampler=keys, num_workers=workers, collate_fn=default_collate)
    arrivals = [time.perf_counter() for _ in loader]
    skipped = min(2 * workers, len(arrivals) - 2)
    return batch * (len(arrivals) - 1 - skipped) / (arrivals[-1] - arrivals[skipped])


def main() -> None:
    arguments = parser("Pictures a second that a core makes ready.")
    arguments.add_argument("--pictures", type=int, default=1024, help="pictures to load (1024)")
    arguments.add_argument("--workers", type=int, default=0, help="worker processes; 0 skips this measurement")
    args = arguments.parse_args()

    import torch
    from mmengine.registry import DATASETS

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.engine.resolve.config import resolve_classes

    torch.set_num_threads(1)
    with report_errors(args.debug):
        if args.pictures < 32:
            raise ValueError(f"--pictures has to be 32 or more to time anything, got {args.pictures}")
        if args.workers < 0:
            raise ValueError(f"--workers is 0 or more, got {args.workers}")
        cfg = read_config(args)
        resolve_classes(cfg)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    with report_errors(args.debug, code=1):
        step_times(dataset, 32)
        seconds = step_times(dataset, args.pictures)
        print(f"{'step':<20}{'ms a picture':>14}")
        for name, spent in seconds.items():
            print(f"{name:<20}{1000 * spent / args.pictures:>14.2f}")
        print(f"one core: {args.pictures / sum(seconds.values()):.0f} pictures/s")
        if args.workers:
            print(f"{args.workers} workers: {loader_rate(dataset, args.pictures, args.workers):.0f} pictures/s")


if __name__ == "__main__":
    main()
