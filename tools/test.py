"""Tests a network and prints its metrics.

Command: python tools/test.py CONFIG CHECKPOINT [--protocol P | --tta] [--out DIR] [--show-dir DIR]
         python tools/test.py MODEL ... --cfg-options test_dataloader.dataset.data_root=DATA

MODEL is the work folder of a run, or a published segmentor of pictures (file or folder), which holds no data root.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vil_dense.command_line import parser

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner
    from torch import Tensor

PROTOCOLS = ["mmseg", "squash", "multiscale"]


def read_run(args: argparse.Namespace, subfolder: str) -> "tuple[Config, dict[str, Tensor]]":
    """Reads the config and the weights, and refuses what cannot be tested as it is asked."""
    from vil_dense.files import check_folders
    from vil_dense.mm.cli.arguments import read_config
    from vil_dense.mm.publish.command_line import read_model
    from vil_dense.mm.publish.published import needs_no_config
    from vil_dense.mm.publish.trained_model import find_checkpoint, find_config
    from vil_dense.mm.utils.safe_load import read_weights

    source = Path(args.config)
    if args.checkpoint is None and source.is_dir() and not needs_no_config(source):  # a run, of any kind
        args.config, args.checkpoint = str(find_config(source)), str(find_checkpoint(source))
    if args.checkpoint is None:
        trained, _ = read_model(args, [], subfolder)
        cfg, weights, args.checkpoint = trained.cfg, trained.weights, trained.name
        if not cfg.get("test_evaluator"):
            raise ValueError(f"{trained.name} was published without its data: test it by its config and checkpoint")
    else:
        cfg = read_config(args, subfolder)
        weights = read_weights(args.checkpoint)
    if (args.out or args.show_dir) and "decode_head" not in cfg.model:
        asked = " and ".join(f"--{name}" for name in ("out", "show-dir") if getattr(args, name.replace("-", "_")))
        raise ValueError(f"{asked}: only for segmentors of pictures, and {args.config} is of type {cfg.model.type}")
    if missing := [key for key in ("test_dataloader", "test_cfg", "test_evaluator") if cfg.get(key) is None]:
        raise ValueError(f"{args.config} has no {missing[0]}, so nothing of it can be tested")
    check_folders(cfg.work_dir, args.out, args.show_dir)
    return cfg, weights


def build(args: argparse.Namespace) -> "Runner":
    """Builds the runner, loads the weights, and builds and checks the data."""
    import torch
    from mmengine.dist import get_world_size

    from vil_dense.mm import ImageClassifier
    from vil_dense.mm.datasets.checks.labels import check_labels
    from vil_dense.mm.datasets.pictures import check_output_names
    from vil_dense.mm.engine.quiet_runner import QuietRunner
    from vil_dense.mm.engine.resolve.config import resolve_config
    from vil_dense.mm.evaluation import protocols
    from vil_dense.mm.utils.safe_load import load_exactly
    from vil_dense.mm.utils.unwrap import unwrap

    if args.tta and args.protocol not in (None, "multiscale"):
        raise ValueError(f"--tta is the multiscale protocol, so it cannot be {args.protocol}")
    protocol = "multiscale" if args.tta else args.protocol
    cfg, weights = read_run(args, f"test_{protocol or 'own'}")
    cfg.model.pop("picture_weights", None)  # the initial weights of training
    cfg.load_from, cfg.resume = None, False  # in the config of a resumed run, an earlier checkpoint
    resolve_config(cfg, get_world_size(), torch.cuda.is_available(), weights)
    if protocol:
        protocols.PROTOCOLS[protocol](cfg)
    if args.out:
        cfg.custom_hooks.append(dict(type="OverlayHook", folder=args.out, labels=True))
    if args.show_dir:
        cfg.custom_hooks.append(dict(type="OverlayHook", folder=args.show_dir))
    runner = QuietRunner.from_cfg(cfg)
    network = unwrap(runner.model)
    if isinstance(network, ImageClassifier):  # published weights have other names
        weights = network.weights_as_ours(weights)
    load_exactly(runner.model, weights, args.checkpoint)
    # The data are built and checked now, while errors are still those of the user.
    check_labels(runner, cfg.get("label_check", {}), ("test",))
    if args.out or args.show_dir:
        check_output_names(runner.test_dataloader.dataset)
    return runner


def main() -> None:
    arguments = parser("Tests a segmentor or a classifier.")
    arguments.add_argument("checkpoint", nargs="?", help="checkpoint file of this config's model")
    arguments.add_argument("--protocol", choices=PROTOCOLS, help="default: as the config says")
    arguments.add_argument("--tta", action="store_true", help="the same as --protocol multiscale")
    arguments.add_argument("--out", help="folder for label PNGs with the ids of the data set")
    arguments.add_argument("--show-dir", help="folder for overlays")
    args = arguments.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.engine.distributed import clean_exit, end_processes
    from vil_dense.mm.engine.failures import explain_failures

    with clean_exit():
        with report_errors(args.debug):
            runner = build(args)
        with report_errors(args.debug, code=1), explain_failures(runner, "test"):
            runner.test()
            end_processes()


if __name__ == "__main__":
    main()
