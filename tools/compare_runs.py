"""Compares trainings, or tests, of the same classes with the first one.

Command: python tools/compare_runs.py RUN RUN [RUN ...] --out DIR

RUN is a work folder of tools/train.py or tools/test.py. Writes report.html (results, curves, classes, pictures that
differ most) and differences.csv: for the pictures that a run shares with the first one the mean of the paired
differences, its 95 % bootstrap interval and the two-sided p of Wilcoxon's signed-rank test.
"""

import sys
from pathlib import Path

from vil_dense.command_line import plain_parser

CHARTS = {
    "Training loss": "loss",
    "Validation mIoU": "mIoU",
    "Validation mBIoU": "mBIoU",
    "Validation cross-entropy": "cross_entropy",
    "Validation top-1": "top1",
    "Validation Dice": "Dice",
    "Learning rate": "lr",
}
"""Logged scalars by the title of their chart; those that no run has are left out."""


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="work folders; the first is the reference")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        import shlex

        from vil_dense.files import check_folders, save_csv, short_names
        from vil_dense.mm.engine.hooks.reports import read_scalars
        from vil_dense.mm.visualization.compare_page import (
            check_comparable,
            compare_page,
            differences,
            p_value,
        )
        from vil_dense.mm.visualization.result_files import read_result
        from vil_dense.report import command, save_page

        if len(args.runs) < 2:
            raise ValueError(f"two runs or more are compared, got {args.runs[0]} alone")
        check_folders(args.out)
        names = short_names(args.runs)
        results = {name: read_result(path) for name, path in zip(names, args.runs, strict=True)}
        check_comparable(results)
        curves = {
            title: {name: read_scalars(str(path), scalar) for name, path in zip(names, args.runs, strict=True)}
            for title, scalar in CHARTS.items()
        }
        found = differences(results)
        repeat = command(shlex.join(["python", *sys.argv]))
        save_page(args.out / "report.html", compare_page(results, curves, found, repeat))
        if found:
            save_csv(args.out / "differences.csv", [difference._asdict() for difference in found])
        if found:
            print(f"mean difference from {names[0]} over shared pictures (95 % interval), p of Wilcoxon's test")
        for each in found:
            print(
                f"{each.run}  {each.value}: {each.mean:+.4f} ({each.low:+.4f} to {each.high:+.4f}), "
                f"p {p_value(each.p)}, {each.pictures} pictures"
            )
        print(f"report: {args.out / 'report.html'}")


if __name__ == "__main__":
    main()
