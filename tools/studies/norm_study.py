"""Measures on one device how per-GPU BatchNorm changes the result of a training.

Command: python tools/studies/norm_study.py CONFIG --out DIR [--cfg-options K=V ...]

Trains the same segmentor from the same weights on the same batches, once for each row of `ARMS`. To imitate several
GPUs, each of --parts equal parts of the batch is normalised by its own statistics; the gradient is that of the whole
batch, as with DDP. The model is evaluated twice: with the running statistics of the first part, which DDP keeps, and
with their mean over all parts. Writes curves.json after every run, and curves.png at the end. A stopped study resumes
with the same command.

Measured (configs/results/norm_study, which holds the options; synthetic sample, 300 steps of 16 crops of 96 px in 8
parts, a ViL of 4 blocks of 48 channels, seeds 0 and 1): mIoU 52.7 and 50.9 over the whole batch, 51.6 and 50.4 in
parts (51.9 and 50.7 with the mean statistics), 52.4 and 51.0 with the 1x1 pool alone in parts, 49.1 and 50.1 with
GroupNorm.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vil_dense.command_line import Overrides, at_least, plain_parser
from vil_dense.files import read_json, save_json, write_whole

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmseg.models.segmentors import EncoderDecoder

CURVES = "curves.json"
POOL = "decode_head.psp_modules.0."
"""Prefix of UperNet's 1 x 1 pool, whose norm has a single value per picture."""

ARMS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "whole batch": ("BN", lambda name: False),
    "each part": ("BN", lambda name: True),
    "each part, 1x1 pool whole": ("BN", lambda name: not name.startswith(POOL)),
    "1x1 pool alone each part": ("BN", lambda name: name.startswith(POOL)),
    "GroupNorm": ("GN", lambda name: False),
}
"""Norm of neck and heads, and a function of the name that chooses the layers normalised by part."""


def build(cfg: "Config", norm: str) -> "EncoderDecoder":
    """Builds the segmentor with BN or GN wherever the config leaves the norm open."""
    from mmseg.registry import MODELS

    from vil_dense.mm.engine.resolve.config import resolve_norm

    cfg = copy.deepcopy(cfg)
    # choose_norm's rule by batch: one picture gives GroupNorm, many give BatchNorm
    cfg.train_dataloader.batch_size = 1 if norm == "GN" else 16
    if not resolve_norm(cfg, world_size=1, cuda=False):
        raise ValueError("the study needs a config that leaves its norm open: norm_cfg=dict(type='SyncBN')")
    return MODELS.build(cfg.model)


def evaluate(model: "EncoderDecoder", loader: Iterable[dict], pictures: int) -> float:
    """Returns the mIoU in % over the first `pictures` of the loader and the classes that occur."""
    import torch
    from mmseg.evaluation import IoUMetric

    model.eval()
    classes = model.decode_head.num_classes
    areas = torch.zeros(2, classes, dtype=torch.float64)
    with torch.no_grad():
        for index, data in enumerate(loader):
            if index == pictures:
                break
            for sample in model.val_step(data):
                truth, found = sample.gt_sem_seg.data, sample.pred_sem_seg.data.cpu()
                areas += torch.stack(IoUMetric.intersect_and_union(found, truth, classes, 255)[:2])
    model.train()
    intersection, union = areas[:, areas[1] > 0]
    return float(100 * (intersection / union).mean())


def train(cfg: "Config", arm: str, seed: int, args: argparse.Namespace) -> dict[str, list]:
    """Trains once: losses of each step, and mIoU every `--every` steps with either kind of running statistics."""
    import torch
    from mmengine.optim import build_optim_wrapper
    from mmengine.runner import Runner, set_random_seed
    from part_norm import part_norms, split_norms

    norm, chosen = ARMS[arm]
    set_random_seed(seed)
    model = build(cfg, norm)
    if norm == "BN":
        split_norms(model, args.parts, chosen)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    rate = [group["lr"] for group in optimizer.param_groups]
    val_loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    set_random_seed(seed)
    curve: dict[str, list] = dict(loss=[], step=[], mIoU=[], mIoU_mean_statistics=[])
    source = iter(Runner.build_dataloader(cfg.train_dataloader, seed=seed))
    for step in range(1, args.steps + 1):
        factor = min(1.0, step / 40) * 0.5 * (1 + np.cos(np.pi * step / args.steps))
        for group, base in zip(optimizer.param_groups, rate, strict=True):
            group["lr"] = base * factor
        curve["loss"].append(round(float(model.train_step(next(source), optimizer)["loss"]), 5))
        if step % args.every == 0:
            curve["step"].append(step)
            curve["mIoU"].append(round(evaluate(model, val_loader, args.pictures), 3))
            for layer in part_norms(model):
                layer.swap()
            again = evaluate(model, val_loader, args.pictures) if part_norms(model) else curve["mIoU"][-1]
            curve["mIoU_mean_statistics"].append(round(again, 3))
            for layer in part_norms(model):
                layer.swap()
    return curve


def plot(results: dict[str, dict[str, dict]], path: Path) -> None:
    """Plots the mIoU against the step: mean and range of the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    keys = (("mIoU", "running statistics of the first part"), ("mIoU_mean_statistics", "... of the mean over parts"))
    for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), keys, strict=True):
        for arm, runs in results.items():
            steps = next(iter(runs.values()))["step"]
            curves = np.array([run[key] for run in runs.values()])
            (line,) = axes.plot(steps, curves.mean(0), "o-", label=f"{arm} ({len(runs)} seeds)")
            axes.fill_between(steps, curves.min(0), curves.max(0), alpha=0.15, color=line.get_color())
        axes.set(xlabel="step", ylabel="mIoU in %", title=title)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    write_whole(path, lambda part: figure.savefig(part, dpi=120))


def prepare(args: argparse.Namespace) -> "tuple[Config, dict]":
    """Reads the config, and the settings with the runs that are already finished."""
    from mmengine.registry import init_default_scope

    from vil_dense.mm.cli.arguments import load_config

    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope("mmseg")
    batch = cfg.train_dataloader.batch_size
    if batch % args.parts or batch == args.parts:
        raise ValueError(f"{args.parts} parts of a batch need two pictures or more each, got a batch of {batch}")
    if args.every > args.steps:
        raise ValueError(f"--every {args.every} leaves no validation within --steps {args.steps}")
    path = args.out / CURVES
    build(cfg, "BN")  # errors of the config are raised now
    numbers = {name: getattr(args, name) for name in ("parts", "steps", "every", "pictures")}
    setting = dict(config=args.config, options=dict(args.cfg_options), batch=batch, **numbers)
    setting = json.loads(json.dumps(setting, default=str))
    content = read_json(path) if path.exists() else dict(setting=setting, runs={})
    if content["setting"] != setting:
        raise ValueError(f"{path} is of another setting: {content['setting']}; choose another --out")
    return cfg, content


def run_all(cfg: "Config", content: dict, args: argparse.Namespace) -> None:
    """Adds the missing runs to `content` and writes it after each."""
    for seed in args.seeds:
        for arm in ARMS:
            runs = content["runs"].setdefault(arm, {})
            if str(seed) in runs:
                continue
            start = time.monotonic()
            runs[str(seed)] = curve = train(cfg, arm, seed, args)
            save_json(args.out / CURVES, content)
            done = time.monotonic() - start
            print(f"{arm}, seed {seed}: mIoU {curve['mIoU']}, {curve['mIoU_mean_statistics']} with mean statistics, "
                  f"last losses {np.mean(curve['loss'][-20:]):.4f}, {done:.0f} s", flush=True)  # fmt: skip


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True, help="folder for curves.json and curves.png")
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2])
    parser.add_argument("--parts", type=at_least(1), default=8, help="imitated GPUs (8)")
    parser.add_argument("--steps", type=at_least(1), default=300)
    parser.add_argument("--every", type=at_least(1), default=100, help="steps from one validation to the next")
    parser.add_argument("--pictures", type=at_least(1), default=25, help="validation pictures to evaluate (25)")
    parser.add_argument("--cfg-options", nargs="+", action=Overrides, default={})
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        cfg, content = prepare(args)
    with report_errors(args.debug, code=1):
        run_all(cfg, content, args)
        plot(content["runs"], args.out / "curves.png")
        print(f"curves: {args.out / CURVES}, {args.out / 'curves.png'}")


if __name__ == "__main__":
    main()
