"""Cross-validates a volume config, and scores each case with the network that was not trained on it.

Command: python tools/volumes/cross_validate.py CONFIG --work-dir D [--folds 0 1 ... | --fold K | --pool]

Trains all folds of the data set one after another, each in D/fold_K, and segments the held-out cases of each with its
last checkpoint. A stopped run resumes with the same command. The folds are those of the data list, of nnU-Net's
splits_final.json, or five random ones. Then writes to D:

  masks/          out-of-fold masks, on the grids of the images
  metrics.csv     Dice, HD95 in mm and NSD of each structure in each case, with its fold
  summary.json    their means over all cases, with 95 % bootstrap intervals
  report.html     a page that opens from disk: structures, worst cases, Dice, agreement of the volumes

In an array job each task runs one fold with --fold K; --pool then gathers the folds. For several GPUs, first train
with `torchrun tools/train.py CONFIG --work-dir D/fold_K --cfg-options fold=K`, and run --fold K afterwards.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vil_dense.command_line import parser
from vil_dense.files import check_folders

ROOT = Path(__file__).parents[2]


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser(__doc__)
    which = known.add_mutually_exclusive_group()
    which.add_argument("--folds", type=int, nargs="+", metavar="K", help="folds to run and to pool (default: all)")
    which.add_argument("--fold", type=int, metavar="K", help="run one fold and do not pool, as a task of an array job")
    known.add_argument("--pool", action="store_true", help="only gather the folds, which are finished")
    known.add_argument("--probabilities", action="store_true", help="write class probabilities, for ensembles")
    known.add_argument(
        "--uncertainty", action="store_true", help="write maps of the uncertainty, and correlate with Dice"
    )
    args = known.parse_args()
    if args.pool and args.fold is not None:
        known.error("argument --pool: not allowed with argument --fold")
    if taken := {"fold", "resume", "load_from"} & {*args.cfg_options}:
        known.error(f"argument --cfg-options: {', '.join(sorted(taken))} cannot be chosen, each fold has its own")
    return args


def train(args: argparse.Namespace, fold: int, folder: Path) -> None:
    """Runs tools/train.py without a fold, in a process of its own; ends with its exit code if it fails."""
    options = [f"{key}={value!r}" for key, value in (args.cfg_options | dict(fold=fold)).items()]
    command = [sys.executable, str(ROOT / "tools/train.py"), args.config, "--resume", "--work-dir", str(folder)]
    with subprocess.Popen([*command, "--cfg-options", *options]) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # which saves a checkpoint first
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if code:
        ended = f"the training without fold {fold} ended with exit code {code}"
        print(f"error: {ended}; the same command resumes it", file=sys.stderr)
        sys.exit(code if code > 0 else 128 - code)


def table(summary: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a table: mean and interval of each metric, of each structure and over all."""

    def cell(row: Mapping[str, Any], key: str, digits: int) -> str:
        value, ends = row[key], row[f"{key}_95"]
        interval = f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""
        return "-" if value is None else f"{value:.{digits}f}{interval}"

    rows: Sequence[tuple[str, Mapping[str, Any]]] = [*summary["structures"].items(), ("mean", summary["mean"])]
    width = max(len(name) for name, _ in rows)
    return [f"{'':{width}}  {'Dice':25}  {'HD95 mm':28}  NSD"] + [
        f"{name:{width}}  {cell(row, 'dice', 3):25}  {cell(row, 'hd95_mm', 2):28}  {cell(row, 'nsd', 3)}"
        for name, row in rows
    ]


def main() -> int:
    args = arguments()

    import torch

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.cli.runs import check_volumes
    from vil_dense.mm.engine.resolve_volumes import resolve_plan

    with report_errors(args.debug):
        cfg = read_config(args, "cross_validation")
        check_folders(cfg.work_dir)
        resolve_plan(cfg)
        check_volumes(cfg)
        from vil_dense.mm.volumes.cross_validation import CrossValidation

        options = dict(probabilities=args.probabilities, uncertainty=args.uncertainty)
        study = CrossValidation(Path(cfg.work_dir), cfg, **options)
        folds = [args.fold] if args.fold is not None else args.folds or [*study.data.splits]
        for fold in folds:
            study.data.split(fold)  # an unknown one is refused before the first is trained
    with report_errors(args.debug, code=1):
        for fold in folds if not args.pool else ():
            if study.is_scored(fold):
                print(f"fold {fold} is already finished and is skipped", flush=True)
                continue
            study.run(fold, lambda number, folder: train(args, number, folder), _device(torch.cuda.is_available()))
            print(f"fold {fold} is finished in {study.folder(fold)}", flush=True)
        if args.fold is not None:
            return 0
        summary = study.pool(folds)
        for name, values in summary.get("uncertainty", {}).items():
            print(f"{name}: Spearman's correlation with mean Dice {values['spearman']:.2f}, p {values['p']:.2g}")
        print("\n".join(table(summary)))
        print(f"intervals: {summary['interval']}; {summary['rule']}")
        if left := summary["never_held_out"]:
            print(
                f"warning: {len(left)} cases are in no held-out part of these folds ({left[0]}, ...)", file=sys.stderr
            )
        print(f"{summary['cases']} cases of {len(folds)} folds pooled in {study.root}")
    return 0


def _device(cuda: bool) -> str:
    return "cuda" if cuda else "cpu"


if __name__ == "__main__":
    sys.exit(main())
