"""Builds the page that compares runs: results, curves, classes, paired differences of pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from vil_dense.mm.visualization.result_files import VALUES, Result
from vil_dense.mm.visualization.run_page import class_colours, curve_section, image_of, shown
from vil_dense.report import gallery, indexed_png, page, paired_difference, png_uri, table
from vil_dense.report.charts import Curve
from vil_dense.report.page import Cell, heading, note, paragraph

SHOWN = 4
"""Pictures that are better, and pictures that are worse than in the first run, which a page shows of each run."""


class Difference(NamedTuple):
    """Holds how a run differs from the first one in a value of the pictures that both have."""

    run: str
    value: str
    pictures: int
    mean: float
    low: float
    high: float
    p: float
    better: int
    worse: int


def check_comparable(results: Mapping[str, Result]) -> None:
    """Checks that runs have the same classes.

    Raises:
        ValueError: two runs have other classes.
    """
    (first, reference), *others = results.items()
    for name, result in others:
        if list(result.classes) != list(reference.classes):
            raise ValueError(
                f"runs of the same classes can be compared; {first} has {_few(reference.classes)}, "
                f"{name} has {_few(result.classes)}"
            )


def _few(names: Mapping[str, float]) -> str:
    return f"{len(names)} classes ({', '.join([*names][:3])}, ...)" if names else "no classes"


def shared_files(first: Result, other: Result) -> list[str]:
    """Returns the pictures that two results have in common, in the order of the first."""
    return [file for file in first.pictures if file in other.pictures]


def differences(results: Mapping[str, Result]) -> list[Difference]:
    """Compares each run with the first one on the pictures that both have; empty for runs without pictures."""
    (_, first), *others = results.items()
    found = []
    for name, other in others:
        files = shared_files(first, other)
        for value in VALUES:
            before, after = np.array(first.values(value, files)), np.array(other.values(value, files))
            gained = (after - before) * (-1 if value == "cross_entropy" else 1)
            if np.isnan(gained).all():
                continue
            paired = paired_difference(before.tolist(), after.tolist())
            found.append(Difference(name, value, *paired, int((gained > 0).sum()), int((gained < 0).sum())))
    return found


def compare_page(
    results: Mapping[str, Result],
    curves: Mapping[str, Mapping[str, Curve]],
    found: Sequence[Difference],
    command: Markup,
) -> Markup:
    """Returns the page of several runs.

    Args:
        results: of each run by its name; the first is the reference.
        curves: values by step, by title of the chart and name of the run.
        found: the paired differences.
        command: the part that repeats the comparison.
    """
    (first, reference), *others = results.items()
    sections: dict[str, list[Markup]] = {
        "Differences": _difference_section(first, found),
        "Curves": curve_section(curves),
        "Classes": _class_section(results),
        "Pictures that differ most": [
            part for name, other in others for part in _picture_section(first, reference, name, other)
        ],
        "Runs": [part for name, result in results.items() for part in _about(name, result)],
    }
    lead = [
        paragraph(f"{len(results)} runs; the reference is {first}."),
        _results(results),
        *_protocols(results),
        *(
            paragraph(
                f"{d.run} minus {first}, mean of {d.pictures} pictures: mIoU {d.mean:+.2f} "
                f"(95 % interval {d.low:+.2f} to {d.high:+.2f}, p {p_value(d.p)})."
            )
            for d in found
            if d.value == "mIoU"
        ),
        command,
    ]
    return page(" / ".join(results), lead, sections)


def _results(results: Mapping[str, Result]) -> Markup:
    """Returns the metrics of each run, one row each."""
    names = list(dict.fromkeys(name for result in results.values() for name in result.facts["metrics"]))
    ordered = [*(name for name in ("mIoU", "mBIoU") if name in names)]
    ordered += [name for name in names if name not in ordered]
    rows = [(run, *(result.facts["metrics"].get(name) for name in ordered)) for run, result in results.items()]
    return table(["run", *ordered], rows)


def _protocols(results: Mapping[str, Result]) -> list[Markup]:
    """Returns a sentence if the runs were tested in different ways; empty otherwise."""
    protocols = {name: result.facts.get("protocol") or "not known" for name, result in results.items()}
    if len({*protocols.values()}) == 1:
        return []
    each = "; ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
    return [paragraph(f"The test protocols differ, so the numbers differ for this reason, too. {each}.")]


def _difference_section(first: str, found: Sequence[Difference]) -> list[Markup]:
    if not found:
        return [paragraph("The runs have no pictures in common, or no table of them, so only totals are compared.")]
    rows = [
        (d.run, d.value, f"{d.mean:+.3f}", _interval(d), p_value(d.p), d.better, d.worse, d.pictures) for d in found
    ]
    columns = ["run", "value", "mean difference", "95 % interval", "p", "better", "worse", "pictures"]
    rule = (
        f"Differences from {first} of each picture that both runs have. The interval is that of a bootstrap over the "
        "pictures, p that of Wilcoxon's signed-rank test. They say nothing about trainings with another seed."
    )
    return [table(columns, rows), note(rule)]


def _interval(d: Difference) -> str:
    return f"{d.low:+.3f} to {d.high:+.3f}"


def p_value(p: float) -> str:
    """Returns the p of a `Difference` in two digits, or why it has none."""
    return "undefined, as no picture differs" if math.isnan(p) else f"{p:.2g}"


def _class_section(results: Mapping[str, Result]) -> list[Markup]:
    """Returns the IoU of each class in each run, and its difference from the first run; largest differences first."""
    (_, first), *others = results.items()
    if not first.classes:
        return []
    deltas = {name: [other.classes[name] - value for _, other in others] for name, value in first.classes.items()}
    largest = {name: max((abs(d) for d in row if not math.isnan(d)), default=0.0) for name, row in deltas.items()}
    rows = []
    for name in sorted(deltas, key=lambda name: -largest[name]):
        row: list[Cell] = [name, first.classes[name]]
        for (_, other), delta in zip(others, deltas[name], strict=True):
            row += [other.classes[name], None if math.isnan(delta) else f"{delta:+.2f}"]
        rows.append(row)
    columns = ["class", next(iter(results)), *(text for name, _ in others for text in (name, "difference"))]
    return [note("IoU in % (top-1 of classifiers); the largest differences come first."), table(columns, rows)]


def _picture_section(first: str, reference: Result, name: str, other: Result) -> list[Markup]:
    """Returns the pictures on which two runs differ most: the picture, its truth and both predictions."""
    files = shared_files(reference, other)
    gained = np.array(other.values("mIoU", files)) - np.array(reference.values("mIoU", files))
    order = [int(n) for n in np.argsort(gained, kind="stable") if gained[n] == gained[n]]
    chosen = {
        f"{name} is better": [n for n in order[::-1][:SHOWN] if gained[n] > 0],
        f"{name} is worse": [n for n in order[:SHOWN] if gained[n] < 0],
    }
    parts: list[Markup] = []
    seen: set[int] = set()
    palette = reference.palette()
    for title, numbers in chosen.items():
        rows = []
        for n in numbers:
            before, after = reference.label_maps(files[n]), other.label_maps(files[n])
            if before is None or after is None:
                continue
            images = image_of(reference.pictures[files[n]].get("path", ""), files[n])
            left_out = shown(images)
            for caption, label in (("truth", before[0]), (first, before[1]), (name, after[1])):
                images[caption] = png_uri(indexed_png(label, palette))
                seen |= {*np.unique(label).tolist()}
            values = [result.values("mIoU", [files[n]])[0] for result in (reference, other)]
            rows += [note(f"{files[n]}: mIoU {values[0]:.1f} and {values[1]:.1f}{left_out}"), gallery(images)]
        parts += [heading(title), *rows] if rows else []
    return [class_colours(seen, list(reference.classes), palette), *parts] if parts else []


def _about(name: str, result: Result) -> list[Markup]:
    protocol = result.facts.get("protocol")
    what = f"{result.facts.get('about', '')}{f' Protocol: {protocol}.' if protocol else ''}"
    return [heading(name), paragraph(what)]
