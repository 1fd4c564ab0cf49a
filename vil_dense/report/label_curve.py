"""Compares configs by a metric against the number of labels: table of runs, paired differences, curve."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vil_dense.files import write_whole
from vil_dense.report.paired import paired_difference


class Run(NamedTuple):
    """Stores a finished training: what it learned from, its metric, and the metric of each case; NaN if undefined."""

    config: str
    share: float  # of the labelled cases, in %
    seed: int
    labels: int
    value: float
    cases: Mapping[str, float]


def table_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns a row for each share and config: labelled cases, seeds, mean and standard deviation over the seeds.

    The number of cases differs between seeds where groups do, and is then a mean.
    """
    rows = []
    for share, config in _keys(runs):
        own = [run for run in runs if (run.share, run.config) == (share, config)]
        values = [run.value for run in own]
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        labels = statistics.mean(run.labels for run in own)
        row = dict(share=share, labels=labels, config=config, seeds=len(own), mean=statistics.mean(values))
        rows.append(row | dict(deviation=spread, least=min(values), most=max(values)))
    return rows


def difference_rows(runs: Sequence[Run], groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns how each config differs from the first one at each share, in pairs by case.

    Only seeds that both have count, and of each seed only cases whose value both have. The value of a case is its mean
    over these seeds, and that of a group, as a patient, the mean over its cases; the interval and p are of
    `paired_difference` over the groups. `least` and `most` are the smallest and the largest difference of the metrics
    of one seed.

    Args:
        runs: of the configs, the first config's first.
        groups: of each case; a case without one is its own.
    """
    rows = []
    first = runs[0].config if runs else ""
    for share, config in _keys(runs):
        by_seed = {(run.config, run.seed): run for run in runs if run.share == share}
        seeds = [seed for name, seed in by_seed if name == config and (first, seed) in by_seed]
        if config == first or not seeds:
            continue
        pairs = [(by_seed[first, seed], by_seed[config, seed]) for seed in seeds]
        before, after = (_by_group(values, groups) for values in zip(*(_shared(*pair) for pair in pairs), strict=True))
        if not before:
            continue
        paired = paired_difference([*before.values()], [after[name] for name in before])
        gained = [other.value - reference.value for reference, other in pairs]
        row = dict(share=share, config=config, reference=first, seeds=len(seeds), groups=paired.cases)
        row |= dict(difference=paired.mean, low=paired.low, high=paired.high, wilcoxon_p=paired.p)
        rows.append(row | dict(least=min(gained), most=max(gained)))
    return rows


def markdown(runs: Sequence[Run], differences: Sequence[Mapping[str, Any]], metric: str, digits: int) -> str:
    """Formats the table of the runs, and that of the differences, as Markdown."""

    def cell(value: float, sign: str = "") -> str:
        return "-" if math.isnan(value) else f"{value:{sign}.{digits}f}"

    lines = [f"| labels, % | cases | config | seeds | {metric}, mean | deviation |", "|---|---|---|---|---|---|"]
    for row in table_rows(runs):
        numbers = f"{row['seeds']} | {cell(row['mean'])} | {cell(row['deviation'])}"
        lines.append(f"| {row['share']:g} | {row['labels']:g} | {row['config']} | {numbers} |")
    if differences:
        lines += [
            "",
            f"Paired differences in {metric} of cases from {differences[0]['reference']}, mean over the seeds:",
        ]
        lines += ["", "| labels, % | config | difference | 95 % interval | p | differences of the seeds |"]
        lines.append("|---|---|---|---|---|---|")
    for each in differences:
        p = "-" if math.isnan(each["wilcoxon_p"]) else f"{each['wilcoxon_p']:.2g}"
        ends, seeds = (f"{cell(each[a], '+')} to {cell(each[b], '+')}" for a, b in (("low", "high"), ("least", "most")))
        lines.append(
            f"| {each['share']:g} | {each['config']} | {cell(each['difference'], '+')} | {ends} | {p} | {seeds} |"
        )
    return "\n".join(lines) + "\n"


def save_plot(path: Path, runs: Sequence[Run], metric: str) -> None:
    """Plots the metric against the number of labelled cases, as PNG: points are seeds, lines join their means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes, rows = figure.subplots(), table_rows(runs)
    for config in dict.fromkeys(run.config for run in runs):
        curve = sorted((row["labels"], row["mean"]) for row in rows if row["config"] == config)
        (line,) = axes.plot(*zip(*curve, strict=True), "-", label=config)
        points = [(run.labels, run.value) for run in runs if run.config == config]
        axes.plot(*zip(*points, strict=True), "o", color=line.get_color(), alpha=0.5)
    ticks = sorted({row["labels"] for row in rows})
    axes.set(xlabel="labelled cases", ylabel=metric, xscale="log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend()
    write_whole(path, lambda part: figure.savefig(part, dpi=120))


def _keys(runs: Sequence[Run]) -> list[tuple[float, str]]:
    """Returns share and config of the runs, shares rising, configs in the order of the runs."""
    configs = [*dict.fromkeys(run.config for run in runs)]
    return sorted({(run.share, run.config) for run in runs}, key=lambda key: (key[0], configs.index(key[1])))


def _shared(first: Run, other: Run) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the values of the cases of both runs, of those alone in which both are defined."""
    known = [case for case, value in first.cases.items() if not math.isnan(value + other.cases.get(case, math.nan))]
    return {case: first.cases[case] for case in known}, {case: other.cases[case] for case in known}


def _by_group(runs: Sequence[Mapping[str, float]], groups: Mapping[str, str]) -> dict[str, float]:
    """Returns the mean over cases, and before over the runs, of each group; `runs` are the values of their cases."""
    values: dict[str, dict[str, list[float]]] = {}
    for cases in runs:
        for case, value in cases.items():
            values.setdefault(groups.get(case, case), {}).setdefault(case, []).append(value)
    return {name: statistics.mean(map(statistics.mean, own.values())) for name, own in values.items()}
