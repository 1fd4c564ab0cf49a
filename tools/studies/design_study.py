"""Repeats tables 2 and 3 of the ViL paper with small networks.

Command: python tools/studies/design_study.py DATA --out DIR [--seeds N]

Trains a small network with each block design (configs/imagenet/designs) and each classification design
(configs/imagenet/pooling) on a folder of classes (DATA/train/CLASS, DATA/val/CLASS), one run after another, with the
same seeds for all. Finished runs are not repeated, unfinished ones resume. Writes study.csv and study.json after every
run.

The study checks that all designs can be trained; networks of this size do not confirm the numbers of the paper.
"""

import statistics
import time
from datetime import timedelta
from pathlib import Path

from vil_dense.command_line import at_least, plain_parser
from vil_dense.files import save_csv, save_json

ROOT = Path(__file__).parents[2]
DESIGNS = sorted((ROOT / "configs/imagenet").glob("*/vil*.py"))
SIZE = 64
SMALL = [
    *("model.dim=32", "model.depth=4", "model.patch_size=8", f"model.grid=[{SIZE // 8},{SIZE // 8}]"),
    *("model.data_preprocessor.mixup=0.0", "model.data_preprocessor.cutmix=0.0", "compile_blocks=False"),
    *(f"train_dataloader.dataset.pipeline.2.size={SIZE}", "train_dataloader.dataset.pipeline.2.scale=(0.25,1.0)"),
    *(f"val_dataloader.dataset.pipeline.1.size={SIZE}", "auto_scale_lr=None", "param_scheduler.0.warmup=1"),
    *("train_cfg.max_epochs=6", "train_cfg.val_interval=6", "default_hooks.checkpoint.interval=1"),
    *("default_hooks.logger.interval=10", "optim_wrapper.optimizer.lr=0.002"),
]
"""Options of a small network and a short run; --cfg-options override them."""
LOADER = ["batch_size=64", "num_workers=0", "persistent_workers=False", "dataset.first=None"]


def options(data: Path, seed: int, asked: list[str]) -> list[str]:
    """Returns the --cfg-options of a run."""
    loader = [*LOADER, f"dataset.data_root={data.resolve()}"]
    loaders = [f"{part}_dataloader.{option}" for part in ("train", "val") for option in loader]
    classes = sum(folder.is_dir() for folder in (data / "train").iterdir())
    return [*SMALL, *loaders, f"model.num_classes={classes}", f"randomness.seed={seed}", *asked]


def train(design: Path, run: Path, chosen: list[str]) -> dict:
    """Trains a run unless it is finished; returns its accuracy in % after the last epoch and median step time in s."""
    from vil_dense.mm.cli.grids import train_once
    from vil_dense.mm.engine.hooks.reports import read_scalars

    train_once(ROOT / "tools/train.py", design, run, chosen)
    accuracy, steps = read_scalars(str(run), "top1"), read_scalars(str(run), "time")
    return dict(top1=accuracy[max(accuracy)], step_s=statistics.median(steps.values()))


def table(results: dict[str, list[dict]]) -> list[tuple]:
    """Returns for each design: runs, mean accuracy, its deviation, step time in ms and relative to the first."""
    first = statistics.median(run["step_s"] for run in next(iter(results.values())))
    rows = []
    for name, runs in results.items():
        accuracy = [run["top1"] for run in runs]
        spread = statistics.stdev(accuracy) if len(runs) > 1 else float("nan")
        step = statistics.median(run["step_s"] for run in runs)
        rows.append((name, len(runs), statistics.mean(accuracy), spread, 1000 * step, step / first))
    return rows


def save(results: dict[str, list[dict]], out: Path) -> None:
    """Writes study.csv and study.json."""
    header = ("design", "runs", "top1", "deviation", "step_ms", "time_to_first")
    save_csv(out / "study.csv", [dict(zip(header, row, strict=True)) for row in table(results)], ".2f")
    save_json(out / "study.json", results)


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder with train/CLASS and val/CLASS")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    parser.add_argument("--seeds", type=at_least(1), default=3, metavar="N", help="runs of each design (3)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="K=V", help="options of every run, see tools/train.py"
    )
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        if not (args.data / "train").is_dir():
            raise FileNotFoundError(
                f"no folder of classes at {args.data / 'train'}; tools/dataset_converters/make_crops.py makes one"
            )
        results: dict[str, list[dict]] = {}
        start, total, done = time.monotonic(), args.seeds * len(DESIGNS), 0
        for seed in range(args.seeds):
            chosen = options(args.data, seed, args.cfg_options)
            for design in DESIGNS:
                run = args.out / f"{design.stem}_{seed}"
                results.setdefault(design.stem, []).append(dict(seed=seed, **train(design, run, chosen)))
                save(results, args.out)
                done += 1
                left = timedelta(seconds=round((time.monotonic() - start) / done * (total - done)))
                print(
                    f"{done} of {total}: {design.stem}, seed {seed}, {results[design.stem][-1]}, {left} left",
                    flush=True,
                )
        print(f"table: {args.out / 'study.csv'}")


if __name__ == "__main__":
    main()
