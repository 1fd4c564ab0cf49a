"""Trains a network and writes checkpoints, logs and reports to the work folder.

Command: python tools/train.py CONFIG [--work-dir D] [--resume] [--amp] [--deterministic] [--log-to LOGGER] [...]
"""

import argparse
from typing import TYPE_CHECKING

from vil_dense.command_line import parser

if TYPE_CHECKING:
    from vil_dense.mm.engine.runner import ViLRunner

LOGGERS = ["tensorboard", "wandb", "mlflow"]


def build(args: argparse.Namespace) -> "ViLRunner":
    """Builds the runner of a config with the arguments merged in, ready to train."""
    import torch
    from mmengine.registry import RUNNERS

    from vil_dense.mm.cli.arguments import read_config
    from vil_dense.mm.visualization.loggers import add_loggers

    cfg = read_config(args)
    cfg.runner_type = "ViLRunner"
    cfg.auto_resume = args.resume
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper" if torch.cuda.is_available() else "CPUAmpOptimWrapper"
    if args.deterministic:
        cfg.setdefault("randomness", {})["deterministic"] = True
    add_loggers(cfg, args.log_to)
    runner = RUNNERS.build(cfg)
    runner.prepare()
    return runner


def main() -> None:
    arguments = parser("Trains a segmentor or a classifier.")
    arguments.add_argument("--resume", action="store_true", help="resume from the last checkpoint of the work folder")
    arguments.add_argument("--deterministic", action="store_true", help="give the same numbers in every run; slower")
    arguments.add_argument("--amp", action="store_true", help="train in mixed precision; bfloat16 on a CPU")
    arguments.add_argument(
        "--log-to",
        action="append",
        choices=LOGGERS,
        default=[],
        help="log scalars there, too, below the work folder and without a network; may be given several times",
    )
    args = arguments.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.engine.distributed import clean_exit, end_processes
    from vil_dense.mm.engine.hooks.preemption import requeue_on_preemption

    with clean_exit(), requeue_on_preemption():
        with report_errors(args.debug):
            runner = build(args)
        with report_errors(args.debug, code=1):
            runner.train()
            end_processes()


if __name__ == "__main__":
    main()
