"""Builds the parts of a page on the scores of volumes: structures, worst cases, Dice, volumes, uncertainty.

The pages of `tools/volumes/evaluate.py` and of a training or test show the same parts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vil_dense.medical.metrics import OUTCOMES, Score
from vil_dense.medical.statistics import describe_correlation, mean_dice, uncertainty_correlation, volume_agreement
from vil_dense.report import Point, Thumbnail, choose_pictures, scatter_chart, strip_chart, table, thumbnails, tiles
from vil_dense.report.charts import charts
from vil_dense.report.page import Cell, heading, note, paragraph

CHARTS = 12
"""Structures of which a page shows a chart of the volumes; tables have all."""
EACH = 4
"""Worst, best and random cases of which a page shows pictures, so many of each."""


def chosen_cases(scores: Sequence[Score]) -> dict[str, list[str]]:
    """Returns the worst cases by mean Dice, the best and some random ones, none twice."""
    dice = mean_dice(scores)
    names = [*dice]
    chosen = choose_pictures([*dice.values()], EACH)
    return {title: [names[n] for n in numbers] for title, numbers in chosen.items()}


def score_lead(scores: Sequence[Score], summary: Mapping[str, Any]) -> list[Markup]:
    """Returns the first screen: means, the worst cases, a row for each structure.

    Args:
        summary: of `statistics.summarise_with_intervals`, with `metrics.Scoring.described`.
    """
    mean, rows = summary["mean"], summary["structures"]
    counts = {outcome: sum(row[outcome] for row in rows.values()) for outcome in OUTCOMES}
    ranked = sorted((value, case) for case, value in mean_dice(scores).items() if not math.isnan(value))
    worst = ", ".join(f"{case} ({value:.3f})" for value, case in ranked[:3])
    return [
        tiles(
            {
                f"mean Dice{_interval(mean['dice_95'], 3)}": _number(mean["dice"], 3),
                f"HD95, mm{_interval(mean['hd95_mm_95'], 2)}": _number(mean["hd95_mm"], 2),
                f"NSD, {summary['nsd_tolerance_mm']:g} mm{_interval(mean['nsd_95'], 3)}": _number(mean["nsd"], 3),
                "missed, and false positive structures": f"{counts['missed']}, {counts['false_positive']}",
            }
        ),
        *([paragraph(f"Lowest mean Dice: {worst}.")] if worst else []),
        _structures(rows),
    ]


def score_sections(
    scores: Sequence[Score],
    summary: Mapping[str, Any],
    pictures: Mapping[str, str],
    uncertainty: Mapping[str, Mapping[str, float]],
) -> dict[str, list[Markup]]:
    """Returns the sections of a page by heading.

    Args:
        summary: see `score_lead`.
        pictures: data URI of the overlay of each case that has one.
        uncertainty: of each case that has some, by measure.
    """
    return {
        "Pictures of cases": _picture_section(scores, pictures),
        "Cases": [_case_table(scores, uncertainty)],
        "Distribution of Dice": [_dice_chart(scores)],
        "Volumes": _volume_section(scores, summary),
        "Uncertainty": _uncertainty_section(scores, uncertainty),
        "Definitions": _definitions(summary),
    }


def _structures(rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    columns = ["structure", "Dice", "95 % interval", "HD95, mm", "NSD", *(name.replace("_", " ") for name in OUTCOMES)]
    cells: list[list[Cell]] = [
        [
            name,
            row["dice"],
            None if row["dice_95"] is None else "{:.3f} to {:.3f}".format(*row["dice_95"]),
            row["hd95_mm"],
            row["nsd"],
            *(row[outcome] for outcome in OUTCOMES),
        ]
        for name, row in rows.items()
    ]
    return table(columns, cells, digits=3)


def _picture_section(scores: Sequence[Score], pictures: Mapping[str, str]) -> list[Markup]:
    chosen = {title: [case for case in cases if case in pictures] for title, cases in chosen_cases(scores).items()}
    if not any(chosen.values()):
        return [paragraph("There are no pictures of these cases.")]
    dice = mean_dice(scores)
    parts = [
        note(
            "Ranked by mean Dice. Filled: prediction; lines: truth. The slices are those in which the two differ most. "
            "Click a picture to enlarge it and to see the scores of the case."
        )
    ]
    for title, cases in chosen.items():
        shown = [
            Thumbnail(f"{case}: mean Dice {dice[case]:.3f}", pictures[case], _of_case(scores, case)) for case in cases
        ]
        parts += [heading(title.capitalize()), thumbnails(shown)] if shown else []
    return parts


def _of_case(scores: Sequence[Score], case: str) -> Markup:
    rows: list[list[Cell]] = [
        [
            score.structure,
            score.dice,
            score.hd95_mm,
            score.nsd,
            score.truth_ml,
            score.predicted_ml,
            score.outcome.replace("_", " "),
        ]
        for score in scores
        if score.case == case
    ]
    return table(["structure", "Dice", "HD95, mm", "NSD", "truth, ml", "prediction, ml", "outcome"], rows, digits=3)


def _words(score: Score) -> str:
    return score.outcome.replace("_", " ")


def _case_table(scores: Sequence[Score], uncertainty: Mapping[str, Mapping[str, float]]) -> Markup:
    """Returns a row for each case, the lowest mean Dice first."""
    dice = mean_dice(scores)
    measures = [*dict.fromkeys(name for own in uncertainty.values() for name in own)]
    rows: list[list[Cell]] = []
    for case in sorted(dice, key=lambda name: (math.isnan(dice[name]), dice[name])):
        own = [score for score in scores if score.case == case and score.dice is not None]
        worst = min(own, key=lambda score: score.dice or 0.0, default=None)
        row: list[Cell] = [case, dice[case], "all absent" if worst is None else f"{worst.structure} {worst.dice:.3f}"]
        row += [max((score.hd95_mm or 0.0 for score in own), default=None)]
        row += [sum(score.outcome == outcome for score in own) for outcome in ("missed", "false_positive")]
        rows.append([*row, *(uncertainty.get(case, {}).get(name) for name in measures)])
    columns = ["case", "mean Dice", "lowest Dice", "largest HD95, mm", "missed", "false positive"]
    return table([*columns, *(name.replace("_", " ") for name in measures)], rows, digits=3)


def _dice_chart(scores: Sequence[Score]) -> Markup:
    groups: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.dice is not None:
            groups.setdefault(score.structure, {})[score.case] = score.dice
    return charts([strip_chart("Dice", groups, "of each case; the line is the mean")])


def _volume_section(scores: Sequence[Score], summary: Mapping[str, Any]) -> list[Markup]:
    """Returns the agreement of the volumes: a table, and a chart for the structures of the lowest Dice."""
    found = volume_agreement(scores)
    if not found:
        return []
    rows: list[list[Cell]] = [
        [name, one.cases, one.truth, _ml(one.bias), f"{_ml(one.low)} to {_ml(one.high)}" if one.cases > 1 else None]
        for name, one in found.items()
    ]
    lowest = sorted(found, key=lambda name: summary["structures"][name]["dice"] or 0.0)[:CHARTS]
    figures = [
        scatter_chart(
            name,
            [
                Point(score.case, (score.truth_ml + score.predicted_ml) / 2, score.predicted_ml - score.truth_ml)
                for score in scores
                if score.structure == name and score.outcome != "absent"
            ],
            "mean of both, ml",
            "prediction minus truth, ml",
            {"bias": found[name].bias, "−1.96 SD": found[name].low, "+1.96 SD": found[name].high},  # noqa: RUF001
        )
        for name in (name for name in found if name in lowest)
    ]
    rule = "Bland and Altman: the bias is the mean of prediction minus truth; 95 % of the differences are expected in "
    more = f" Charts show the {CHARTS} structures of the lowest Dice." if len(found) > CHARTS else ""
    return [
        note(f"{rule}the limits of agreement (bias ± 1.96 standard deviations).{more}"),
        table(["structure", "cases", "mean truth, ml", "bias, ml", "limits of agreement, ml"], rows, digits=3),
        charts(figures),
    ]


def _ml(value: float) -> str:
    return f"{value:+.{3 if abs(value) < 10 else 1}f}"


def _uncertainty_section(scores: Sequence[Score], uncertainty: Mapping[str, Mapping[str, float]]) -> list[Markup]:
    """Returns a chart of each measure against Dice, with its rank correlation."""
    dice = mean_dice(scores)
    found = describe_correlation(uncertainty_correlation(uncertainty, scores))
    figures = []
    for name in dict.fromkeys(name for own in uncertainty.values() for name in own):
        points = [
            Point(case, own[name], dice[case]) for case, own in uncertainty.items() if name in own and case in dice
        ]
        title = name.replace("_", " ")
        figures.append(scatter_chart(title.capitalize(), points, title, "mean Dice"))
    explained = "A number of a case is the mean of its map over the voxels of its mask, from 0 (sure) to 1."
    return [*map(paragraph, found.values()), charts(figures), note(explained)] if any(figures) else []


def _definitions(summary: Mapping[str, Any]) -> list[Markup]:
    return [
        paragraph(f"Structures: {summary['rule']}."),
        paragraph(f"NSD: {summary['nsd_definition']}; the tolerance is {summary['nsd_tolerance_mm']:g} mm."),
        paragraph(
            "HD95: the larger of the two 95th percentiles of distances between boundary voxels, in mm. Means are over "
            "the cases of a structure, and then over the structures."
        ),
        *([paragraph(f"Intervals: {summary['interval']}.")] if "interval" in summary else []),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return f" (95 % {ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""
