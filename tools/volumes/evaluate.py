"""Scores masks against labels.

Command: python tools/volumes/evaluate.py CONFIG MASKS LABELS --out DIR

MASKS is a mask or a folder of masks. LABELS is a label file, a folder of them, or a data list (JSON, or with --fold the
folder of a data set; --section and --fold choose from it). Mask and label of a case have the same name; every label
needs a mask, unless --subset is given. The structures are those
of the config's plan, or regions of several labels in its test_evaluator. Writes to DIR:

  metrics.csv     Dice, HD95 in mm and NSD of each structure in each case
  metrics.json    the same, and the means with 95 % bootstrap intervals
  report.html     a page that opens from disk: structures, worst cases, Dice, agreement of the volumes, uncertainty
  overlays/       the cases that the page shows

Images for the overlays are those of the data list, or those of which predict.py made the masks. Where predict.py
measured the uncertainty, its rank correlation with Dice is reported.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vil_dense.command_line import at_least, parser
from vil_dense.files import check_folders

if TYPE_CHECKING:
    from mmengine.config import Config

    from vil_dense.medical.data.plan_schema import Plan
    from vil_dense.medical.metrics import Scoring
    from vil_dense.medical.pages.write import Pair


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser("Scores masks against labels.")
    known.add_argument("masks", metavar="MASKS", help="mask, or folder of masks")
    known.add_argument("labels", metavar="LABELS", help="label file, folder of labels, or data list (JSON)")
    known.add_argument("--out", required=True, help="folder for metrics.csv, metrics.json and report.html")
    known.add_argument(
        "--tolerance-mm", type=at_least(0, float), help="tolerance of the NSD (default: that of the config)"
    )
    known.add_argument("--nsd", choices=("voxel", "area"), help="definition (default: that of the config, else voxel)")
    known.add_argument("--section", help="list in the JSON, e.g. training (default: the first of testing, test, ...)")
    known.add_argument("--fold", type=int, help="only cases of this fold of the data")
    known.add_argument("--subset", action="store_true", help="score the labels that have a mask, and count the others")
    return known.parse_args()


def pairs(
    masks: Path, labels: Path, section: str | None, fold: int | None, patient: str | None = None, subset: bool = False
) -> "Iterator[Pair]":
    """Yields name, mask, label and image of each case; with `subset` of those that have a mask."""
    from vil_dense.medical.datalists.inputs import find_cases
    from vil_dense.medical.inference.report import read_report
    from vil_dense.medical.pages.write import Pair

    found = {case.name: case.images[0] for case in find_cases(masks)}
    # A MONAI bundle names the mask of NAME `NAME_seg`.
    found = {name.removesuffix("_seg"): path for name, path in found.items() if name.endswith("_seg")} | found
    truths = find_cases(labels, section=section, fold=fold, patient=patient)
    if len(found) == len(truths) == 1 and masks.is_file():
        found = {truths[0].name: masks}
    scored = {found[case.name] for case in truths if case.name in found}
    if alone := sorted({*found.values()} - scored):
        names = alone[0].name + ", ..." * (len(alone) > 1)
        warn(f"{len(alone)} of {len({*found.values()})} masks are not scored, without a label here: {names}")
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
        if listed:
            yield Pair(case.name, found[case.name], label, case.images[0], case.frame)
            continue
        report = read_report(masks, case.name)
        image = (report.get("sources") or [{}])[0].get("path")
        yield Pair(case.name, found[case.name], label, image and Path(image), report.get("frame"))


def line(name: str, values: Mapping[str, float | None]) -> str:
    """Formats the scores of a structure."""
    numbers = ["-" if values[key] is None else f"{values[key]:.4g}" for key in ("dice", "hd95_mm", "nsd")]
    return f"{name}: Dice {numbers[0]}, HD95 {numbers[1]} mm, NSD {numbers[2]}"


def warn(words: str) -> None:
    """Prints a warning."""
    print(f"warning: {words}", file=sys.stderr)


def check_patients(names: Sequence[str], patient: str | None) -> None:
    """Raises a ValueError if the config's `patient` is not found in all names, which its data may have alone."""
    from vil_dense.medical.datalists.folds import patient_of

    try:
        for name in names:
            patient_of(name, patient)
    except ValueError as error:
        raise ValueError(f"{error}; it is of the config: change it by --cfg-options patient=REGEX, or None") from None


def read_plan_and_scoring(args: argparse.Namespace, cfg: "Config") -> "tuple[Plan, Scoring]":
    """Returns the plan of a config, and its scoring, which the command line may change."""
    from vil_dense.medical.data.plan_schema import read_plan
    from vil_dense.medical.metrics import Scoring

    plan, options = read_plan(cfg.model.plan), dict(cfg.get("test_evaluator") or {})
    options |= {key: value for key in ("nsd", "tolerance_mm") if (value := getattr(args, key)) is not None}
    return plan, Scoring.of(plan, options)


def main() -> int:
    args = arguments()

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.engine.resolve.volumes import resolve_plan
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        cfg = read_config(args)
        check_folders(args.out)
        resolve_plan(cfg)
        from vil_dense.medical.inference.report import read_uncertainty
        from vil_dense.medical.metrics import save_scores, score_files
        from vil_dense.medical.pages.write import save_evaluation_page
        from vil_dense.medical.statistics import describe_correlation, summarise_with_intervals

        plan, scoring = read_plan_and_scoring(args, cfg)
        out, masks, labels, patient = Path(args.out), Path(args.masks), Path(args.labels), cfg.get("patient")
        found = list(pairs(masks, labels, args.section, args.fold, patient, args.subset))
        check_patients([pair.name for pair in found], patient)
        with Progress("cases") as progress:
            files = [(pair.name, pair.mask, pair.label) for pair in found]
            scores = score_files(files, plan, scoring, report=progress, warn=warn)
        unsure = read_uncertainty({pair.name: masks for pair in found})
        summary = save_scores(scores, out, scoring, summarise_with_intervals(scores, scoring, patient, unsure))
        title, again = f"Scores of {Path(*masks.resolve().parts[-2:])}", shlex.join(["python", *sys.argv])
        page = save_evaluation_page(
            out, found, scores, summary, plan, title=title, command_line=again, uncertainty=unsure, warn=warn
        )
        for name, values in [*summary["structures"].items(), ("mean", summary["mean"])]:
            print(line(name, values))
        for sentence in describe_correlation(summary.get("uncertainty", {})).values():
            print(sentence)
        print(f"NSD: {summary['nsd_definition']}, {scoring.tolerance_mm:g} mm")
        print(f"report: {page}\n{summary['cases']} cases scored in {args.out} ({summary['rule']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
