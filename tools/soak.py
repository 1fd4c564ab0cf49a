"""Does memory grow over hours of training and of prediction? python tools/soak.py --out DIR [--minutes 60]

Trains the made sample without an end, then predicts a folder without an end, each for `--minutes` in a process of its
own; what the process and its workers hold (proportional set size, MiB) is read every `--every` seconds. Growth is the
slope of a line through the last four fifths, with its standard error (of means over tenths of that time, which are
nearly independent). Results: soak.csv, soak.json, soak.png in DIR. Exit code 1 where growth is beyond noise: more than
three standard errors, and more than 2 % of the mean over the time measured. Linux only.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vil_dense.files import save_csv, save_json, write_whole
from vil_dense.mm.command import one_sentence, plain_parser
from vil_dense.mm.scenes import write_sample

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/vil_upernet_sample.py"
ENDLESS = 10**9
PICTURES = 100_000
TENTHS = 10


class Growth(NamedTuple):
    """Of memory: mean (MiB), slope and its standard error (MiB an hour), growth over the time measured (share)."""

    mean: float
    slope: float
    error: float
    share: float

    @property
    def beyond_noise(self) -> bool:
        return self.slope > 3 * self.error and self.share > 0.02


def growth(seconds: np.ndarray, mib: np.ndarray) -> Growth:
    """Of the last four fifths of the samples; ValueError where there are fewer than 50."""
    if len(seconds) < 50:
        raise ValueError(f"{len(seconds)} samples of memory are too few to see growth in: 50 or more are needed")
    start = len(seconds) // 5
    hours, held = seconds[start:] / 3600, mib[start:]
    x = np.array([part.mean() for part in np.array_split(hours, TENTHS)])
    y = np.array([part.mean() for part in np.array_split(held, TENTHS)])
    spread = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    rest = y - y.mean() - slope * (x - x.mean())
    error = float(np.sqrt((rest**2).sum() / (TENTHS - 2) / spread))
    return Growth(held.mean(), slope, error, slope * (hours[-1] - hours[0]) / held.mean())


def family(process: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def held(process: int) -> float:
    """Proportional set size of a process and its children, MiB; those that end meanwhile count nothing."""
    kib = 0
    for member in family(process):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def watch(name: str, command: list[str], out: Path, minutes: float, every: float) -> list[dict]:
    """Run a tool for a time; a row for each sample. ValueError where it ends by itself."""
    log = out / f"{name}.log"
    rows: list[dict] = []
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file)
        try:
            start = time.monotonic()
            while (seconds := time.monotonic() - start) < 60 * minutes:
                if process.poll() is not None:
                    raise ValueError(f"{name} ended by itself with code {process.returncode}; see {log}")
                rows.append(dict(what=name, seconds=round(seconds, 1), mib=round(held(process.pid), 2)))
                time.sleep(every)
                if len(rows) % 60 == 0:
                    print(f"{name}: {rows[-1]['mib']:.0f} MiB, {minutes - seconds / 60:.0f} min left", flush=True)
        finally:
            process.kill()
            process.wait()
    return rows


def training(out: Path, data: Path) -> list[str]:
    """The command of a training that goes on, with validation and checkpoints every 50 steps."""
    roots = [f"{split}_dataloader.dataset.data_root={data}" for split in ("train", "val", "test")]
    often = ["train_cfg.val_interval=50", "default_hooks.checkpoint.interval=50", "train_dataloader.batch_size=4"]
    endless = [f"train_cfg.max_iters={ENDLESS}", *often]
    return ["tools/train.py", str(CONFIG), "--work-dir", str(out / "training"), "--cfg-options", *endless, *roots]


def prediction(out: Path, data: Path) -> list[str]:
    """The command of a prediction over many links to the sample's pictures, with what the training saved last."""
    pictures = sorted((data / "images/validation").glob("*"))
    folder = out / "pictures"
    folder.mkdir()
    for n in range(PICTURES):
        os.symlink(pictures[n % len(pictures)], folder / f"{n:06d}{pictures[0].suffix}")
    checkpoint = (out / "training/last_checkpoint").read_text()
    return ["tools/predict.py", str(CONFIG), checkpoint, str(folder), "--out", str(out / "prediction")]


def save(rows: list[dict], found: dict[str, Growth], out: Path) -> None:
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
    parser.add_argument("--minutes", type=float, default=60, help="of training, and of prediction (60)")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples (5)")
    args = parser.parse_args()
    parts: dict[str, Callable[[Path, Path], list[str]]] = dict(training=training, prediction=prediction)
    with one_sentence(args.debug):
        out = args.out.resolve()
        data = write_sample(out / "data", train=40, val=8)
        for name in ("training", "pictures", "prediction"):
            shutil.rmtree(out / name, ignore_errors=True)
        rows: list[dict] = []
        found: dict[str, Growth] = {}
        for name, command in parts.items():
            samples = watch(name, command(out, data), out, args.minutes, args.every)
            rows += samples
            found[name] = growth(*np.array([(row["seconds"], row["mib"]) for row in samples]).T)
            save(rows, found, out)
            print(
                f"{name}: {found[name].slope:+.1f} +- {found[name].error:.1f} MiB an hour, mean {found[name].mean:.0f}"
            )
        shutil.rmtree(out / "pictures")
    return int(any(row.beyond_noise for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
