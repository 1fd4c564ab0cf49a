"""Checks that trainings which are killed and resumed equal unbroken ones bit for bit.

Command: python tools/robustness/kill_test.py --out DIR

For each kind (pictures; the same with averaged weights, accumulated gradients and early stopping; a finished run that
is resumed with twice the steps; classes; volumes) a small training runs once without a stop. Then it runs repeatedly
with `kill -9` after random times and `--resume` until its end. Weights, optimizer, schedule and logged values (except
times) must equal those of the unbroken run. Checkpoints are written at every step, and half of the kills wait until one
is being written. Writes kills.json to DIR and prints a line for each finished training. The exit code is 1 if one
differs.
"""

import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vil_dense.command_line import at_least, plain_parser
from vil_dense.files import save_json
from vil_dense.synthetic import scenes, volumes

ROOT = Path(__file__).parents[2]
COMMON = (
    "default_hooks.checkpoint.interval=1", "default_hooks.logger.interval=1", "train_dataloader.num_workers=2",
    "train_dataloader.persistent_workers=True", "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
)  # fmt: skip
PICTURES = (
    "model.data_preprocessor.size=(64,64)", "train_dataloader.dataset.pipeline.3.crop_size=(64,64)",
    "model.backbone.dim=32", "model.backbone.depth=2", "model.backbone.out_indices=(0,0,1,1)",
    "model.backbone.drop_path=0.2", "model.neck.embed_dim=32", "model.decode_head.in_channels=[32,32,32,32]",
    "model.decode_head.channels=16", "model.auxiliary_head.in_channels=32", "model.auxiliary_head.channels=16",
    "train_dataloader.batch_size=2", "train_cfg.max_iters=16", "train_cfg.val_interval=4",
    "default_hooks.checkpoint.save_best=mIoU",
)  # fmt: skip
STATEFUL = (
    *PICTURES,
    "optim_wrapper.accumulative_counts=2",
    "custom_hooks=[{'type':'StepSeedHook'},{'type':'ReportHook'},{'type':'EMAHook'},"
    "{'type':'EarlyStoppingHook','monitor':'mIoU','rule':'greater','patience':2}]",
)
"""Averaged weights, accumulated gradients and a hook that counts: more that a resumed run has to restore."""
CLASSES = (
    "model.num_classes=3", "model.dim=32", "model.depth=2", "model.drop_path=0.2", "model.grid=(4,4)",
    "train_dataloader.dataset.pipeline.2.size=64", "val_dataloader.dataset.pipeline.1.size=64",
    "train_dataloader.batch_size=4", "train_cfg.max_epochs=6", "train_cfg.val_interval=2",
    "param_scheduler.0.warmup=1", "default_hooks.checkpoint.save_best=top1",
)  # fmt: skip
VOLUMES = (
    "model.network.channels=(4,8,8)", "model.network.depths=(0,0,2)", "model.network.drop_path=0.2",
    "model.overlap=0.0", "model.window_batch=8", "plan.patch_vox=(16,16,8)", "train_cfg.max_iters=16",
    "train_cfg.val_interval=8", "default_hooks.checkpoint.save_best=Dice",
)  # fmt: skip


def make_classes(root: Path) -> None:
    """Writes noisy pictures of three colours: of each eight for training and two for validation."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for name, colour in dict(red=(200, 40, 40), green=(40, 200, 40), blue=(40, 40, 200)).items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                noise = rng.integers(-60, 60, (40, 48, 3))
                Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).save(folder / f"{n}.png")


class Kind(NamedTuple):
    """Stores the config, options and data of a kind of training."""

    config: str
    options: tuple[str, ...]
    make: Callable[[Path], object]
    roots: tuple[str, ...]  # options that name the data
    before: tuple[str, ...] = ()  # options of a run that ends first, and that the training resumes


SPLITS = tuple(f"{split}_dataloader.dataset.data_root" for split in ("train", "val", "test"))
KINDS = {
    "pictures": Kind("vil_upernet_sample.py", PICTURES, lambda root: scenes.write_sample(root, train=6, val=2), SPLITS),
    "stateful": Kind("vil_upernet_sample.py", STATEFUL, lambda root: scenes.write_sample(root, train=6, val=2), SPLITS),
    "extended": Kind(
        "vil_upernet_sample.py",
        PICTURES,
        lambda root: scenes.write_sample(root, train=6, val=2),
        SPLITS,
        ("train_cfg.max_iters=8",),
    ),
    "classes": Kind("vil_imagenet.py", CLASSES, make_classes, SPLITS),
    "volumes": Kind(
        "vil_unet3d_sample.py", VOLUMES, lambda root: volumes.write_sample(root, train=3, val=1), ("data_root",)
    ),
}


def start(kind: Kind, data: Path, work_dir: Path, more: tuple[str, ...] = ()) -> int:
    """Starts a process that trains, or resumes the run in `work_dir`; returns its id. Its output goes to a log file.

    `more` are options that count more than those of the kind.
    """
    sys.stdout.flush()
    if child := os.fork():
        return child
    with open(work_dir.with_name(f"{work_dir.name}.log"), "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    roots = [f"{option}={data}" for option in kind.roots]
    options = ["--work-dir", str(work_dir), "--resume", "--cfg-options", *COMMON, *kind.options, *more, *roots]
    sys.argv = ["tools/train.py", str(ROOT / "configs" / kind.config), *options]
    code = 1
    try:
        runpy.run_path(str(ROOT / "tools/train.py"), run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def end(child: int, seconds: float, writes_in: Path | None = None) -> int | None:
    """Waits for a process and returns its exit code; kills it after `seconds` and then returns None.

    With `writes_in` the kill waits until a file in that folder is partly written.
    """
    last = time.monotonic() + seconds
    while time.monotonic() < last or (writes_in and not half_written(writes_in)):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() < last:
            time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def half_written(folder: Path) -> bool:
    """Returns whether the folder holds a temporary file of an unfinished write."""
    return folder.is_dir() and any(name.startswith(".part-") for name in os.listdir(folder))


def outcome(work_dir: Path) -> dict[str, Any]:
    """Returns the results that must not depend on stops: content of the last checkpoint, and logged values by step."""
    from vil_dense.mm.engine.run_start import newest
    from vil_dense.mm.utils.safe_load import load_safely

    path, _, _ = newest(str(work_dir))
    checkpoint = load_safely(str(path))
    history = checkpoint.pop("message_hub")["log_scalars"]
    checkpoint.pop("meta")
    values: dict[str, dict[int, float]] = {}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json")):
        # A killed process may have been cut off in the middle of its last line.
        for row in (json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")):
            for name, value in row.items():
                values.setdefault(name, {})[row.get("step")] = value
    timeless = [name for name in history if "time" not in name]
    return dict(
        name=path and Path(path).name,
        checkpoint=checkpoint,
        history={name: history[name]._log_history.tolist() for name in timeless if name.startswith("train")},
        values={name: column for name, column in values.items() if "time" not in name and name != "memory"},
    )


def difference(one: Any, other: Any, where: str = "") -> str:
    """Returns the first place where two nested structures differ bit for bit; empty if they are equal."""
    import torch

    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{where}: {sorted(map(str, one.keys() ^ other.keys()))} in one of them"
        return next(filter(None, (difference(one[key], other[key], f"{where}/{key}") for key in one)), "")
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next(filter(None, (difference(*pair, f"{where}/{n}") for n, pair in pairs)), "")
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return "" if torch.equal(one, other) else where
    same = one == other or (one != one and other != other)
    return "" if same else f"{where}: {str(one)[:60]} and {str(other)[:60]}"


def run_before(kind: Kind, data: Path, work_dir: Path) -> None:
    """Trains the run that the training of a kind resumes, if it has one.

    Raises:
        ValueError: that run failed; names its log.
    """
    if kind.before and (code := end(start(kind, data, work_dir, kind.before), 600)):
        raise ValueError(f"the run to resume ended with code {code}; see {work_dir}.log")


def kill_and_resume(name: str, kills: int, out: Path, draw: random.Random) -> dict[str, Any]:
    """Kills and resumes trainings of a kind `kills` times; returns the counts and the differences."""
    from vil_dense.mm.engine.run_start import newest

    kind, data, folder = KINDS[name], out / name / "data", out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kind.make(data)
    run_before(kind, data, folder / "whole")
    begun = time.monotonic()
    if code := end(start(kind, data, folder / "whole"), 600):
        raise ValueError(f"the unbroken training ended with code {code}; see {folder}/whole.log")
    length = time.monotonic() - begun
    whole = outcome(folder / "whole")
    found: dict[str, Any] = dict(kills=0, while_writing=0, trainings=0, stops=[], differences=[])
    while found["kills"] < kills:
        broken = folder / f"broken_{found['trainings']}"
        run_before(kind, data, broken)
        while True:
            spent = found["kills"] == kills
            seconds, writing = draw.uniform(0, length), draw.random() < 0.5
            child = start(kind, data, broken)
            code = end(child, 600) if spent else end(child, seconds, broken if writing else None)
            if code is not None:
                break
            found["kills"] += 1
            found["while_writing"] += half_written(broken)
            found["stops"].append(newest(str(broken))[0] and Path(str(newest(str(broken))[0])).stem)
        where = f"exit code {code}, see {broken}.log" if code else difference(whole, outcome(broken))
        found["trainings"] += 1
        found["differences"] += [where] if where else []
        print(
            f"{name}: {found['kills']} of {kills} kills, training {found['trainings']}: {where or 'equal'}", flush=True
        )
        if not where:
            shutil.rmtree(broken)
    return found


def main() -> int:
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and kills.json")
    parser.add_argument("--kills", type=at_least(1), default=30, metavar="N", help="kills for each kind (30)")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    args = parser.parse_args()

    # before the first fork: the trainings find these imported
    import torch

    from vil_dense.mm.cli.arguments import report_errors

    torch.set_num_threads(1)
    with report_errors(args.debug):
        draw = random.Random(0)
        results = {name: kill_and_resume(name, args.kills, args.out.resolve(), draw) for name in args.kinds}
        save_json(args.out / "kills.json", results)
        kills = sum(found["kills"] for found in results.values())
        differ = sum(len(found["differences"]) for found in results.values())
        writing = sum(found["while_writing"] for found in results.values())
        print(f"{kills} kills, {writing} while a file was half written, {differ} trainings differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
