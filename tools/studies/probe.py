"""Evaluates a frozen backbone by its features.

Command: python tools/studies/probe.py CONFIG CHECKPOINT [--knn] [--linear] [--data-root DIR]

CONFIG is that of a classifier; its training and validation pictures are read without augmentation, as for a test.
CHECKPOINT is from a run of this package or published, or `none` for random weights. By default both --knn and --linear
are run. Writes probe.json and probe.csv to the work folder.
"""

import argparse
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vil_dense.command_line import at_least, parser
from vil_dense.files import save_csv, save_json

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES = "tokens pooled as the classifier pools them, between its norms; frozen, evaluation mode, no augmentation"
KNN = "cosine, k = {k}, votes weighted by exp(cosine / 0.07)"
LINEAR = "logistic regression (L-BFGS) on standardised features, L2 by a held-out fifth of each training class"


def build(args: argparse.Namespace) -> "tuple[nn.Module, dict]":
    """Builds the classifier with the checkpoint's weights, and a loader for each split."""
    import torch
    from mmengine.device import get_device
    from mmengine.registry import MODELS
    from mmengine.runner import Runner, set_random_seed

    from vil_dense.mm.cli.arguments import read_config
    from vil_dense.mm.engine.resolve.config import resolve_classes, resolve_loaders

    cfg = read_config(args, subfolder="probe")
    if cfg.model.type != "ImageClassifier":
        raise ValueError(f"probe.py takes a classifier's config, and {args.config} builds a {cfg.model.type}")
    if args.k < 1:
        raise ValueError(f"--k is 1 or more, got {args.k}")
    set_random_seed(cfg.get("randomness", {}).get("seed", 0))
    resolve_loaders(cfg, torch.cuda.is_available())
    resolve_classes(cfg)
    if args.checkpoint != "none":
        cfg.model.init_cfg = dict(type="Pretrained", checkpoint=args.checkpoint)
    model = MODELS.build(cfg.model)
    model.init_weights()
    loaders = {}
    for split in ("train", "val"):
        loader = copy.deepcopy(cfg.val_dataloader)
        loader.dataset = copy.deepcopy(cfg[f"{split}_dataloader"].dataset)
        loader.dataset.update(pipeline=cfg.val_dataloader.dataset.pipeline, test_mode=True)
        loader.dataset.pop("num_classes", None)
        if args.data_root:
            loader.dataset.data_root = args.data_root
        loaders[split] = Runner.build_dataloader(loader, seed=0)
    args.work_dir = cfg.work_dir
    return model.to(get_device()), loaders


def measure(args: argparse.Namespace, data: "dict[str, tuple[Tensor, Tensor]]", classes: int) -> list[dict]:
    """Returns a row for each check that was asked for."""
    from vil_dense.mm.evaluation.probe import L2S, knn_scores, linear_scores, top_accuracy

    (train, train_labels), (val, val_labels) = data["train"], data["val"]
    rows: list[dict[str, Any]] = []
    if args.knn:
        scores = knn_scores(train, train_labels, val, classes, args.k)
        rows.append(dict(check="knn", rule=KNN.format(k=args.k), scores=scores))
    if args.linear:
        scores, l2 = linear_scores(train, train_labels, val, classes)
        rule = f"{LINEAR}: {l2:g} of {', '.join(f'{x:g}' for x in L2S)}"
        rows.append(dict(check="linear", rule=rule, scores=scores))
    for row in rows:
        scores = row.pop("scores")
        row["top1"] = round(top_accuracy(scores, val_labels, 1), 3)
        if classes >= 5:
            row["top5"] = round(top_accuracy(scores, val_labels, 5), 3)
    return rows


def save(args: argparse.Namespace, data: "dict[str, tuple[Tensor, Tensor]]", rows: list[dict], classes: int) -> None:
    """Writes both files and prints a line for each row."""
    content = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        features=FEATURES,
        channels=data["train"][0].shape[1],
        classes=classes,
        pictures={split: len(labels) for split, (_, labels) in data.items()},
        checks=rows,
    )
    folder = Path(args.work_dir)
    save_json(folder / "probe.json", content)
    columns = ["check", "top1", *(["top5"] if "top5" in rows[0] else []), "rule"]
    save_csv(folder / "probe.csv", [{column: row[column] for column in columns} for row in rows], ".2f")
    for row in rows:
        named = ", ".join(f"{key} {row[key]:.2f}" for key in ("top1", "top5") if key in row)
        print(f"{row['check']}: {named} ({row['rule']})")
    print(f"probe: {folder / 'probe.json'}, {folder / 'probe.csv'}")


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("checkpoint", help="file of weights, or none for random ones")
    arguments.add_argument("--knn", action="store_true", help="run the nearest-neighbour check")
    arguments.add_argument("--linear", action="store_true", help="run the linear classifier")
    arguments.add_argument("--data-root", help="another folder with train/CLASS/* and val/CLASS/*")
    arguments.add_argument("--k", type=at_least(1), default=20, help="neighbours that vote")
    args = arguments.parse_args()
    if not (args.knn or args.linear):
        args.knn = args.linear = True

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.evaluation.probe import features
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        model, loaders = build(args)
        names = [loader.dataset.metainfo["classes"] for loader in loaders.values()]
        if list(names[0]) != list(names[1]):
            raise ValueError(f"train and val have different classes: {', '.join(sorted({*names[0]} ^ {*names[1]}))}")
    with report_errors(args.debug, code=1):
        data = {}
        for split, loader in loaders.items():
            with Progress(f"{split} batches") as progress:
                data[split] = features(model, loader, progress)
        save(args, data, measure(args, data, len(names[0])), len(names[0]))


if __name__ == "__main__":
    main()
