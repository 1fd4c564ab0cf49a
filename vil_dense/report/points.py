"""Draws points as inline SVG: pairs of numbers with lines across, and the values of groups as strips."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from vil_dense.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, place, round_ticks

NAMED_POINTS = 400
"""A chart of at most so many points says in a tooltip what each of them is."""
ROW_PX, NAME_PX = 36, 14
"""Height of a strip, and the part of it that the name takes."""
JITTER_PX = (-6, 2, -2, 6, 0, -4, 4)
"""Shifts of neighbouring points across a strip, so that equal values do not hide each other."""
MARGIN = 8


class Point(NamedTuple):
    """Holds a point of a chart and its name."""

    name: str
    x: float
    y: float


def scatter_chart(
    title: str, points: Sequence[Point], x_name: str, y_name: str, lines: Mapping[str, float] | None = None
) -> Markup:
    """Returns a figure of points, and of a horizontal line with a name for each of `lines`.

    Points and lines that are not finite are left out; without points the figure is empty.
    """
    known = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not known:
        return Markup("")
    across = {name: y for name, y in (lines or {}).items() if math.isfinite(y)}
    x_ticks = round_ticks([point.x for point in known], 5)
    y_ticks = round_ticks([*(point.y for point in known), *across.values()], 5)
    parts = [axes(x_ticks, (x_ticks[0], x_ticks[-1]), y_ticks, x_name, whole=False)]
    for name, value in across.items():
        y = place(value, y_ticks, HEIGHT - BOTTOM, TOP)
        line = Markup('<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        beside = y - 3 if y > TOP + NAME_PX else y + NAME_PX - 3  # above the line where there is room
        text = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(WIDTH - RIGHT, beside, name)
        parts.append(line + text)
    places = [
        (
            f"{point.name}: {y_name} {point.y:.4g}, {x_name} {point.x:.4g}",
            place(point.x, x_ticks, LEFT, WIDTH - RIGHT),
            place(point.y, y_ticks, HEIGHT - BOTTOM, TOP),
        )
        for point in known
    ]
    label = f"{title}: {y_name} against {x_name}, {len(known)} points"
    return _figure(title, f"{y_name} against {x_name}", label, [*parts, _dots(places)], HEIGHT)


def strip_chart(title: str, groups: Mapping[str, Mapping[str, float]], note: str = "") -> Markup:
    """Returns a figure with a strip for each group: a point for each value, and a mark at their mean.

    Args:
        groups: values by their names, by the name of the group; those that are not finite are left out.
        note: stands beside the title.
    """
    finite = {
        group: {name: value for name, value in values.items() if math.isfinite(value)}
        for group, values in groups.items()
    }
    finite = {group: values for group, values in finite.items() if values}
    if not finite:
        return Markup("")
    ticks = round_ticks([value for values in finite.values() for value in values.values()], 5)
    height = ROW_PX * len(finite) + BOTTOM
    parts, places = [], []
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    for tick in ticks:
        x = place(tick, ticks, MARGIN, WIDTH - MARGIN)
        anchor = {ticks[0]: "start", ticks[-1]: "end"}.get(tick, "middle")
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>').format(x, height - BOTTOM)
        )
        parts.append(text.format(x, height - 6, anchor, f"{tick:g}"))
    for row, (group, values) in enumerate(finite.items()):
        middle = ROW_PX * row + NAME_PX + (ROW_PX - NAME_PX) / 2
        mean = sum(values.values()) / len(values)
        x = place(mean, ticks, MARGIN, WIDTH - MARGIN)
        parts.append(text.format(MARGIN, ROW_PX * row + NAME_PX - 3, "start", f"{group}, mean {mean:.3g}"))
        parts.append(
            Markup('<line class="level" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
                x, middle - 10, middle + 10
            )
        )
        for number, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
            shift = JITTER_PX[number % len(JITTER_PX)]
            words = f"{name}: {group} {value:.4g}"
            places.append((words, place(value, ticks, MARGIN, WIDTH - MARGIN), middle + shift))
    return _figure(title, note, f"{title} of {', '.join(finite)}", [*parts, _dots(places)], height)


def _dots(places: Sequence[tuple[str, float, float]]) -> Markup:
    """Draws points; each has a name, and its place in px."""
    if len(places) > NAMED_POINTS:
        return Markup('<path class="dots" d="{}"/>').format("".join(f"M{x:.1f} {y:.1f}h0" for _, x, y in places))
    dot = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>')
    return Markup("").join(dot.format(x, y, name) for name, x, y in places)


def _figure(title: str, note: str, label: str, parts: Sequence[Markup], height: float) -> Markup:
    return Markup(
        '<figure><figcaption><b>{}</b> {}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        "</figure>"
    ).format(title, note, WIDTH, height, label, Markup("").join(parts))
