"""Scores masks against labels.

Command: python tools/volumes/evaluate.py CONFIG MASKS LABELS --out DIR

MASKS is a mask or a folder of masks. LABELS is a label file, a folder of them, or a data list (JSON, or with --fold the
folder of a data set; --section and --fold choose from it). Mask and label of a case have the same name; every label
needs a mask, unless --subset is given. The structures are those
of the config's plan, or regions of several labels in its test_evaluator. Writes to DIR: metrics.csv (Dice, HD95 in mm
and NSD of each structure in each case) and metrics.json (the same and the means).
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from vil_dense.command_line import at_least, parser
from vil_dense.files import check_folders


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser("Scores masks against labels.")
    known.add_argument("masks", metavar="MASKS", help="mask, or folder of masks")
    known.add_argument("labels", metavar="LABELS", help="label file, folder of labels, or data list (JSON)")
    known.add_argument("--out", required=True, help="folder for metrics.csv and metrics.json")
    known.add_argument(
        "--tolerance-mm", type=at_least(0, float), help="tolerance of the NSD (default: that of the config)"
    )
    known.add_argument("--section", help="list in the JSON, e.g. training (default: the first of testing, test, ...)")
    known.add_argument("--fold", type=int, help="only cases of this fold of the data")
    known.add_argument("--subset", action="store_true", help="score the labels that have a mask, and count the others")
    return known.parse_args()


def pairs(
    masks: Path, labels: Path, section: str | None, fold: int | None, patient: str | None = None, subset: bool = False
) -> Iterator[tuple[str, Path, Path]]:
    """Yields name, mask and label of each case; with `subset` of those that have a mask."""
    from vil_dense.medical.datalists.inputs import find_cases

    found = {case.name: case.images[0] for case in find_cases(masks)}
    truths = find_cases(labels, section=section, fold=fold, patient=patient)
    if len(found) == len(truths) == 1 and masks.is_file():
        found = {truths[0].name: masks}
    listed = labels.suffix == ".json" or section is not None or fold is not None
    if subset and (lacking := [case.name for case in truths if case.name not in found]):
        print(f"warning: {len(lacking)} of {len(truths)} labels have no mask ({lacking[0]}, ...)", file=sys.stderr)
        truths = [case for case in truths if case.name in found]
        if not truths:
            raise FileNotFoundError(f"no label in {labels} has a mask in {masks}")
    for case in truths:
        label = case.label if listed else case.images[0]
        if label is None:
            raise ValueError(f"{labels}: the case {case.name} has no label")
        if case.name not in found:
            raise FileNotFoundError(f"no mask for {label} in {masks}; --subset scores the labels that have one")
        yield case.name, found[case.name], label


def line(name: str, values: Mapping[str, float | None]) -> str:
    """Formats the scores of a structure."""
    numbers = ["-" if values[key] is None else f"{values[key]:.4g}" for key in ("dice", "hd95_mm", "nsd")]
    return f"{name}: Dice {numbers[0]}, HD95 {numbers[1]} mm, NSD {numbers[2]}"


def main() -> int:
    args = arguments()

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.engine.resolve_volumes import resolve_plan
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        cfg = read_config(args)
        check_folders(args.out)
        resolve_plan(cfg)
        from vil_dense.medical.data.plan_schema import read_plan
        from vil_dense.medical.label_map import LabelMap
        from vil_dense.medical.metrics import TOLERANCE_MM, save_scores, score_files

        plan, evaluator = read_plan(cfg.model.plan), cfg.get("test_evaluator") or {}
        classes = evaluator.get("classes") or LabelMap.of(plan).structures
        tolerance_mm = args.tolerance_mm
        if tolerance_mm is None:
            tolerance_mm = evaluator.get("tolerance_mm", TOLERANCE_MM)
        if not 0 <= tolerance_mm < math.inf:
            raise ValueError(f"tolerance_mm is 0 or more, got {tolerance_mm}")
        where = Path(args.masks), Path(args.labels)
        found = list(pairs(*where, args.section, args.fold, cfg.get("patient"), args.subset))
    with report_errors(args.debug), Progress("cases") as progress:
        scores = score_files(
            found,
            plan,
            classes=classes,
            tolerance_mm=tolerance_mm,
            report=progress,
            warn=lambda line: print(f"warning: {line}", file=sys.stderr),
        )
        summary = save_scores(scores, Path(args.out), tolerance_mm=tolerance_mm)
    with report_errors(args.debug):
        for name, values in [*summary["structures"].items(), ("mean", summary["mean"])]:
            print(line(name, values))
        print(f"{summary['cases']} cases scored in {args.out} ({summary['rule']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
