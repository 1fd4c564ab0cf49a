"""Plots learning curves of groups of runs.

Command: python tools/analysis/plot_runs.py --group NAME RUN ... [--group NAME RUN ...] --out DIR

RUN is a work folder of tools/train.py; the runs of a group differ in their seed. Writes curves.png (the mean of each
group and the range of its runs) and curves.json (the values of each run, their mean and standard deviation; null where
a value is not finite).
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from vil_dense.command_line import plain_parser
from vil_dense.files import save_json, write_whole


def read_group(runs: list[str], metric: str) -> dict:
    """Returns the metric of each run at their common steps, its mean and standard deviation (n - 1)."""
    from vil_dense.mm.engine.hooks.reports import read_scalars

    if twice := sorted({run for run in runs if runs.count(run) > 1}):
        raise ValueError(f"a group takes each run once, got {twice[0]} {runs.count(twice[0])} times")
    curves = {}
    for run in runs:
        if not Path(run).is_dir():
            raise FileNotFoundError(f"no work folder at {run}")
        curves[run] = read_scalars(run, metric)
        if not curves[run]:
            raise ValueError(f"the logs in {run} hold no {metric}")
    steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    if not steps:
        raise ValueError(f"{', '.join(runs)} have no step with {metric} in common")
    values = np.array([[curve[step] for step in steps] for curve in curves.values()])
    spread = values.std(0, ddof=1).tolist() if len(runs) > 1 else None
    by_run = {run: row.tolist() for run, row in zip(curves, values, strict=True)}
    return dict(steps=steps, runs=by_run, mean=values.mean(0).tolist(), deviation=spread)


def as_json(value: Any) -> Any:
    """Returns nested lists and dicts in which numbers that are not finite, which JSON does not have, are None."""
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plot(groups: dict[str, dict], metric: str, path: Path) -> None:
    """Plots the mean of each group and the range of its runs, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, group in groups.items():
        values = np.array(list(group["runs"].values()))
        (line,) = axes.plot(group["steps"], group["mean"], "o-", label=f"{name}, {len(values)} run(s)")
        axes.fill_between(group["steps"], values.min(0), values.max(0), alpha=0.2, color=line.get_color())
    axes.set(xlabel="step", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
    write_whole(path, lambda part: figure.savefig(part, dpi=120))


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("--group", nargs="+", action="append", required=True, metavar=("NAME", "RUN"))
    parser.add_argument("--metric", default="mIoU", help="a name in the logs' scalars (default: mIoU)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        groups = {}
        for name, *runs in args.group:
            if not runs or name in groups:
                raise ValueError(f"--group takes a name of its own and at least one run, got {name} {' '.join(runs)}")
            groups[name] = read_group(runs, args.metric)
        save_json(args.out / "curves.json", dict(metric=args.metric, groups=as_json(groups)))
        plot(groups, args.metric, args.out / "curves.png")
        for name, group in groups.items():
            spread = f" +- {group['deviation'][-1]:.2f}" if group["deviation"] else ""
            runs, last = len(group["runs"]), group["steps"][-1]
            print(f"{name}: {args.metric} {group['mean'][-1]:.2f}{spread} at step {last}, {runs} run(s)")
        print(f"curves: {args.out / 'curves.png'}, {args.out / 'curves.json'}")


if __name__ == "__main__":
    main()
