"""Compares runs case by case with the first one.

Command: python tools/volumes/compare.py RUN RUN [RUN ...] [--out FILE.csv]

RUN is a `metrics.csv`, the work folder of a training, a cross-validation, or several of them with commas between them
(A/fold_0,A/fold_1), whose cases are pooled; a path that exists may have commas itself. Cases of both runs are compared,
as pairs. Prints for each run and metric the mean over these cases (the value of a case is its mean over structures),
the mean of the paired differences from the first run, and the two-sided p of Wilcoxon's signed-rank test. --out also
writes them as a table, with the 95 % bootstrap interval of each difference.
"""

import csv
from pathlib import Path

import numpy as np

from vil_dense.command_line import plain_parser
from vil_dense.files import save_csv

Cases = dict[str, float]


def read_runs(run: str) -> dict[str, Cases]:
    """Reads each metric of each case of several runs with commas between them, which have no case in common."""
    paths = [Path(run)] if Path(run).exists() else [Path(path) for path in run.split(",")]
    pooled: dict[str, Cases] = {}
    for path in paths:
        for metric, cases in read_run(path).items():
            own = pooled.setdefault(metric, {})
            if twice := sorted({*own} & {*cases}):
                raise ValueError(f"{run}: the case {twice[0]} is in several of these runs")
            own |= cases
    if not pooled["dice"]:
        raise ValueError(f"{run} has no scores: every structure is absent from truth and prediction of every case")
    return pooled


def read_run(path: Path) -> dict[str, Cases]:
    """Reads each metric of each case, the mean over the structures that are not absent."""
    from vil_dense.medical.metrics import VALUES

    places = [path, path / "metrics.csv", path / "validation/metrics.csv"]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise FileNotFoundError(f"no metrics.csv at {path}")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or {"case", *VALUES} - {*rows[0]}:
            raise ValueError(f"it needs the columns case, {', '.join(VALUES)}")
        return {value: _means([(row["case"], row[value]) for row in rows if row[value]]) for value in VALUES}
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{table} is no table of cases: {error}") from None


def _means(pairs: list[tuple[str, str]]) -> Cases:
    by_case: dict[str, list[float]] = {}
    for case, cell in pairs:
        by_case.setdefault(case, []).append(float(cell))
    return {case: float(np.mean(values)) for case, values in by_case.items()}


def compare(first: Cases, other: Cases) -> dict[str, float]:
    """Returns the number of common `cases`, those of one run `alone`, the `mean` of the other run over the common ones,
    its `difference` from the first, and `wilcoxon_p`.

    `low` and `high` are the bounds of the difference's 95 % bootstrap interval over the cases.

    Raises:
        ValueError: the runs have no case in common.
    """
    from vil_dense.report import paired_difference

    shared = sorted({*first} & {*other})
    if not shared:
        raise ValueError(
            "the runs have no case in common; name all folds of each, as a cross-validation or as A/fold_0,A/fold_1"
        )
    before, after = (np.array([run[case] for case in shared]) for run in (first, other))
    paired = paired_difference(before.tolist(), after.tolist())
    interval = dict(low=paired.low, high=paired.high)
    alone = len({*first} ^ {*other})
    return dict(
        cases=len(shared), alone=alone, mean=after.mean(), difference=paired.mean, **interval, wilcoxon_p=paired.p
    )


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="work folders or metrics.csv files; the first is the reference"
    )
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        runs = {run: read_runs(run) for run in args.runs}
        if len(args.runs) < 2:
            raise ValueError(f"two runs or more are compared, got {args.runs[0]} alone")
        first = runs[args.runs[0]]
        rows = [
            dict(run=name, metric=value, **{key: float(x) for key, x in compare(first[value], run[value]).items()})
            for name, run in runs.items()
            for value in first
        ]
        if args.out:
            save_csv(args.out, rows)
        for row in rows:
            p, alone = row["wilcoxon_p"], row["alone"]
            others = f" ({alone:.0f} others are in one run alone)" if alone else ""
            print(
                f"{row['run']}  {row['metric']}: {row['mean']:.4f} over {row['cases']:.0f} cases{others}, "
                f"difference {row['difference']:+.4f}, {f'p {p:.3g}' if p == p else 'no p, as no case differs'}"
            )


if __name__ == "__main__":
    main()
