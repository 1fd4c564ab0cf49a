"""Cross-validates a volume config, and scores each case with the network that was not trained on it.

Command: python tools/volumes/cross_validate.py CONFIG --work-dir D [--folds 0 1 ... | --fold K | --pool]

Trains all folds of the data set one after another, each in D/fold_K, and segments the held-out cases of each with its
last checkpoint. A stopped run resumes with the same command. The folds are those of the data list, of nnU-Net's
splits_final.json, or five random ones. Fold K is trained with the seed of the config plus K, so that the folds do not
share one draw of initial weights. Then writes to D:

  masks/          out-of-fold masks, on the grids of the images
  metrics.csv     Dice, HD95 in mm and NSD of each structure in each case, with its fold
  summary.json    their means over all cases, with 95 % bootstrap intervals
  report.html     a page that opens from disk: structures, worst cases, Dice, agreement of the volumes

In an array job each task runs one fold with --fold K; --pool then gathers the folds. For several GPUs, first train
with `torchrun tools/train.py CONFIG --work-dir D/fold_K --cfg-options fold=K randomness.seed=K`, and run --fold K
afterwards.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vil_dense.command_line import parser
from vil_dense.files import check_folders

if TYPE_CHECKING:
    from vil_dense.mm.volumes.cross_validation import CrossValidation

TRAIN = Path(__file__).parents[1] / "train.py"


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


def open_folder(args: argparse.Namespace) -> "CrossValidation":
    """Returns the cross-validation of a config in its work folder, new or as it was stopped."""
    from vil_dense.mm.cli.arguments import read_config
    from vil_dense.mm.cli.runs import check_volumes
    from vil_dense.mm.engine.resolve.volumes import resolve_plan

    cfg = read_config(args, "cross_validation")
    check_folders(cfg.work_dir)
    resolve_plan(cfg)
    check_volumes(cfg)
    from vil_dense.mm.volumes.cross_validation import CrossValidation

    options = dict(probabilities=args.probabilities, uncertainty=args.uncertainty)
    return CrossValidation(Path(cfg.work_dir), cfg, **options)


def report(validation: "CrossValidation", folds: Sequence[int]) -> None:
    """Pools the folds, and prints their scores."""
    from vil_dense.medical.statistics import describe_correlation

    summary = validation.pool(folds)
    for sentence in describe_correlation(summary.get("uncertainty", {})).values():
        print(sentence)
    print("\n".join(table(summary)))
    print(f"intervals: {summary['interval']}; {summary['rule']}")
    if left := summary["never_held_out"]:
        print(f"warning: {len(left)} cases are in no held-out part of these folds ({left[0]}, ...)", file=sys.stderr)
    print(f"report: {validation.root / 'report.html'}")
    print(f"{summary['cases']} cases of {len(folds)} folds pooled in {validation.root}")


def main() -> int:
    args = arguments()

    import torch

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.cli.grids import as_options, train

    with report_errors(args.debug):
        validation = open_folder(args)
        folds = [args.fold] if args.fold is not None else args.folds or [*validation.data.splits]
        for fold in folds:
            validation.data.split(fold)  # an unknown one is refused before the first is trained

    def train_fold(fold: int, folder: Path) -> None:
        seed = (validation.cfg.get("randomness", {}).get("seed") or 0) + fold
        train(TRAIN, args.config, folder, as_options(args.cfg_options | {"fold": fold, "randomness.seed": seed}))

    with report_errors(args.debug, code=1):
        for fold in folds if not args.pool else ():
            if validation.is_scored(fold):
                print(f"fold {fold} is already finished and is skipped", flush=True)
                continue
            validation.run(fold, train_fold, "cuda" if torch.cuda.is_available() else "cpu")
            print(f"fold {fold} is finished in {validation.folder(fold)}", flush=True)
        if args.fold is None:
            report(validation, folds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
