"""Train a network: python tools/train.py CONFIG [--work-dir D] [--resume] [--amp] [--deterministic] [...]"""

import argparse

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from vil_dense.mm import ImageClassifier, ViL
from vil_dense.mm.cli.arguments import check_folders, one_sentence, parser, read_config
from vil_dense.mm.cli.work_dir_lock import hold
from vil_dense.mm.datasets.class_folders import check_loaders
from vil_dense.mm.datasets.label_check import check_labels
from vil_dense.mm.engine import settle
from vil_dense.mm.engine.checkpoints import settle_start
from vil_dense.mm.engine.distributed import end_processes, leaving, settle_processes
from vil_dense.mm.engine.failures import in_words
from vil_dense.mm.engine.hooks.preemption import requeued
from vil_dense.mm.engine.training_memory import say_training
from vil_dense.mm.utils.safe_load import check_backbone, load_exactly, load_safely, weights_of


def build(args: argparse.Namespace) -> Runner:
    """A runner that is ready to train: config settled, model and data built."""
    cfg = read_config(args)
    check_folders(cfg.work_dir)
    broken = settle_start(cfg, args.resume)
    start = cfg.load_from
    weights = weights_of(load_safely(start)) if start else None
    cuda = torch.cuda.is_available()
    settle.settle_compile(cfg)
    if args.deterministic:
        settle.settle_deterministic(cfg)
    lines = [
        *broken,
        settle.settle_plan(cfg),
        settle.describe_neck(cfg),
        settle.settle_norm(cfg, get_world_size(), cuda, weights),
        settle.settle_classes(cfg),
        settle.settle_rate(cfg, get_world_size()),
        settle.settle_loaders(cfg, cuda),
        settle.settle_warmup(cfg),
        settle.settle_amp(cfg, args.amp, cuda),
        settle_processes(cfg, get_world_size(), cuda),
        settle.say_start(cfg, start),
    ]
    if is_main_process():
        hold(cfg.work_dir)
    runner = RUNNERS.build(cfg)
    for line in filter(None, lines):
        runner.logger.info(line)
    # Weights and data are read now, while what goes wrong with them is still the user's to mend.
    if cfg.resume and weights:
        load_exactly(runner.model, weights, start)
    elif weights:
        check_backbone(runner.model, weights, start)
    for network in filter(lambda module: isinstance(module, (ViL, ImageClassifier)), runner.model.modules()):
        network.init_weights()
    check_loaders(runner.train_loop.dataloader, runner.val_loop.dataloader if runner.val_loop else None)
    check_labels(runner, cfg.get("label_check", {}), ("train", "val"))
    for line in say_training(runner) if is_main_process() else []:
        runner.logger.info(line)
    return runner


def main() -> None:
    arguments = parser("Train a segmentor or a classifier.")
    arguments.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the work folder")
    arguments.add_argument("--deterministic", action="store_true", help="the same numbers in every run, at some cost")
    arguments.add_argument("--amp", action="store_true", help="mixed precision (on a GPU)")
    args = arguments.parse_args()
    with leaving(), requeued():
        with one_sentence(args.debug):
            runner = build(args)
        with one_sentence(args.debug, code=1), in_words(runner):
            runner.train()
            end_processes()


if __name__ == "__main__":
    main()
