"""Measures whether memory grows over hours of training and of prediction. Linux only.

Command: python tools/robustness/soak.py --out DIR [--minutes 120]

Trains on the synthetic sample and, at the same time, predicts a folder with the first checkpoint, both for --minutes.
The memory of each process and its workers (proportional set size, MiB) is read every 5 seconds. Growth is the
slope of a line through the last four fifths, with its standard error (of means over tenths of that time, which are
nearly independent). Writes soak.csv, soak.json and soak.png to DIR. The exit code is 1 if growth exceeds noise: more
than three standard errors, and more than 2 % of the mean over the measured time.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vil_dense.command_line import at_least, plain_parser
from vil_dense.files import save_csv, save_json, write_whole
from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/vil_upernet_sample.py"
ENDLESS = 10**9
PICTURES = 100_000
TENTHS = 10
EVERY = 5
"""Seconds from one reading of the memory to the next."""
FEWEST = 50
LEAST = 5
"""Minutes in which at least `FEWEST` readings are made."""


class Growth(NamedTuple):
    """Stores mean (MiB), slope and its standard error (MiB per hour), and growth as a fraction of the mean."""

    mean: float
    slope: float
    error: float
    share: float

    @property
    def beyond_noise(self) -> bool:
        """Returns whether the growth exceeds three standard errors and 2 % of the mean."""
        return bool(self.slope > 3 * self.error and self.share > 0.02)


def growth(seconds: np.ndarray, mib: np.ndarray) -> Growth:
    """Computes the growth over the last four fifths of the samples; raises ValueError for fewer than 50."""
    if len(seconds) < FEWEST:
        raise ValueError(f"{len(seconds)} samples of memory are too few to see growth in: {FEWEST} or more are needed")
    start = len(seconds) // 5
    hours, held = seconds[start:] / 3600, mib[start:]
    x = np.array([part.mean() for part in np.array_split(hours, TENTHS)])
    y = np.array([part.mean() for part in np.array_split(held, TENTHS)])
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    error = float(np.sqrt(covariance[0, 0]))
    return Growth(held.mean(), slope, error, slope * (hours[-1] - hours[0]) / held.mean())


def family(process: int) -> Iterator[int]:
    """Yields the ids of a process and of all its descendants."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def held(process: int) -> float:
    """Returns the proportional set size of a process and its descendants in MiB."""
    kib = 0
    for member in family(process):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def started(name: str, command: list[str], out: Path) -> subprocess.Popen:
    """Starts a tool as a process with its output in NAME.log."""
    with (out / f"{name}.log").open("w") as file:
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file)


def check_runs(running: dict[str, subprocess.Popen], out: Path) -> None:
    """Raises ValueError if one of the processes has ended."""
    for name, process in running.items():
        if process.poll() is not None:
            raise ValueError(f"{name} ended by itself with code {process.returncode}; see {out / name}.log")


def first_checkpoint(running: dict[str, subprocess.Popen], out: Path) -> Path:
    """Copies the first checkpoint of the training, which deletes it later; returns the path of the copy."""
    while not (latest := out / "training/last_checkpoint").exists():
        check_runs(running, out)
        time.sleep(1)
    return Path(shutil.copy(latest.read_text(), out / "first.pth"))


def watch(out: Path, data: Path, minutes: float) -> list[dict]:
    """Runs both tools at the same time; returns a row for each sample of each."""
    rows: list[dict] = []
    running = {"training": started("training", training(out, data), out)}
    try:
        checkpoint = first_checkpoint(running, out)
        running["prediction"] = started("prediction", prediction(out, data, checkpoint), out)
        start = printed = time.monotonic()
        while (seconds := time.monotonic() - start) < 60 * minutes:
            check_runs(running, out)
            sizes = {name: round(held(process.pid), 2) for name, process in running.items()}
            rows += [dict(what=name, seconds=round(seconds, 1), mib=mib) for name, mib in sizes.items()]
            if time.monotonic() - printed > 300:
                printed = time.monotonic()
                print(", ".join(f"{name} {mib:.0f} MiB" for name, mib in sizes.items()), end=", ")
                print(f"{minutes - seconds / 60:.0f} min left", flush=True)
            time.sleep(EVERY)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return rows


def training(out: Path, data: Path) -> list[str]:
    """Returns the command of an endless training with validation and checkpoints every 50 steps."""
    roots = [f"{split}_dataloader.dataset.data_root={data}" for split in ("train", "val", "test")]
    often = ["train_cfg.val_interval=50", "default_hooks.checkpoint.interval=50", "train_dataloader.batch_size=4"]
    endless = [f"train_cfg.max_iters={ENDLESS}", *often]
    return ["tools/train.py", str(CONFIG), "--work-dir", str(out / "training"), "--cfg-options", *endless, *roots]


def prediction(out: Path, data: Path, checkpoint: Path) -> list[str]:
    """Returns the command of a prediction over many links to the sample's pictures."""
    pictures = sorted((data / "images/validation").glob("*"))
    folder = out / "pictures"
    folder.mkdir()
    for n in range(PICTURES):
        os.symlink(pictures[n % len(pictures)], folder / f"{n:06d}{pictures[0].suffix}")
    return ["tools/predict.py", str(CONFIG), str(checkpoint), str(folder), "--out", str(out / "prediction")]


def save(rows: list[dict], found: dict[str, Growth], out: Path) -> None:
    """Writes soak.csv, soak.json and soak.png."""
    from matplotlib.figure import Figure

    save_csv(out / "soak.csv", rows)
    save_json(
        out / "soak.json", {name: row._asdict() | dict(beyond_noise=row.beyond_noise) for name, row in found.items()}
    )
    figure = Figure(figsize=(9, 4), layout="constrained")
    axis = figure.subplots()
    for name, row in found.items():
        points = [(sample["seconds"] / 60, sample["mib"]) for sample in rows if sample["what"] == name]
        label = f"{name}: {row.slope:+.1f} +- {row.error:.1f} MiB an hour"
        axis.plot(*zip(*points, strict=True), label=label)
    axis.set(xlabel="minutes", ylabel="MiB, process and workers", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    write_whole(out / "soak.png", lambda part: figure.savefig(part, dpi=120))


def main() -> int:
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, emptied first")
    parser.add_argument("--minutes", type=at_least(LEAST, float), default=120, help="minutes of both tools (120)")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        out = args.out.resolve()
        data = write_sample(out / "data", train=40, val=8)
        for name in ("training", "pictures", "prediction"):
            shutil.rmtree(out / name, ignore_errors=True)
        rows = watch(out, data, args.minutes)
        found: dict[str, Growth] = {}
        for name in ("training", "prediction"):
            samples = [(row["seconds"], row["mib"]) for row in rows if row["what"] == name]
            found[name] = growth(*np.array(samples).T)
            print(f"{name}: {found[name].slope:+.1f} +- {found[name].error:.1f} MiB an hour of {found[name].mean:.0f}")
        save(rows, found, out)
        shutil.rmtree(out / "pictures")
    return int(any(row.beyond_noise for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
