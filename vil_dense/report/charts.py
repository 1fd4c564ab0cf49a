"""Draws curves as inline SVG and confusion matrices as tables; their colours follow the page, light or dark."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from vil_dense.report.page import swatches

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 22
CHARACTER = 6
"""Width of a character of the axes, in units of the viewBox."""
COLOURS = 8
"""Number of colours for curves in the style sheet; further curves use them again, dashed."""
MARKED = 40
"""A curve of at most so many points shows each of them, with its value as a tooltip."""

Curve = Mapping[int, float]


def line_chart(title: str, curves: Mapping[str, Curve], x_name: str = "step") -> Markup:
    """Returns a figure with a line for each curve, values by step; curves without finite values are left out."""
    finite = {
        name: {x: y for x, y in curve.items() if math.isfinite(y)} for name, curve in curves.items()
    }  # one number that is not finite would leave no scale for the others
    finite = {name: curve for name, curve in finite.items() if curve}
    if not finite:
        return Markup("")
    steps = [float(x) for curve in finite.values() for x in curve]
    x_ticks, x_range = round_ticks(steps, 5), (min(steps), max(steps))
    if x_range[0] == x_range[1]:
        x_range = (x_ticks[0], x_ticks[-1])
    y_ticks = round_ticks([y for curve in finite.values() for y in curve.values()], 5)
    lines = [_line(name, curve, number, x_range, y_ticks) for number, (name, curve) in enumerate(finite.items())]
    key = swatches({name: f"var(--c{number % COLOURS})" for number, name in enumerate(finite)})
    return Markup(
        '<figure><figcaption><b>{}</b></figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>{}'
        "</figure>"
    ).format(
        title,
        WIDTH,
        HEIGHT,
        f"{title} against {x_name}: {', '.join(finite)}",
        axes(x_ticks, x_range, y_ticks, x_name),
        Markup("").join(lines),
        key if len(finite) > 1 or title not in finite else "",
    )


def charts(figures: Sequence[Markup]) -> Markup:
    """Returns figures in a grid that fits the screen."""
    return Markup('<div class="charts">{}</div>').format(Markup("").join(figures)) if any(figures) else Markup("")


def round_ticks(values: Sequence[float], most: int) -> list[float]:
    """Returns round numbers in equal steps of 1, 2 or 5 times a power of ten that include the values."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-12):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, last + 1)]


def place(value: float, scale: Sequence[float], start: float, end: float) -> float:
    """Returns the place of a value on an axis that runs from the first to the last number of `scale`."""
    return start + (value - scale[0]) / (scale[-1] - scale[0]) * (end - start)


def axes(
    x_ticks: Sequence[float],
    x_range: tuple[float, float],
    y_ticks: Sequence[float],
    x_name: str,
    whole: bool = True,
) -> Markup:
    """Returns the grid and the numbers of both axes; with `whole` only whole numbers of the x axis."""
    parts = []
    for tick in y_ticks:
        y = place(tick, y_ticks, HEIGHT - BOTTOM, TOP)
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        parts.append(
            line + Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(LEFT - 6, y + 4, tick)
        )
    text = Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>')
    last = f"{x_name} {_short(x_range[1])}"
    parts.append(text.format(WIDTH - RIGHT, HEIGHT - 6, "end", last))
    room = WIDTH - RIGHT - CHARACTER * (len(last) + 1)
    for tick in x_ticks:
        x, number = place(tick, x_range, LEFT, WIDTH - RIGHT), _short(tick)
        if LEFT <= x < room - CHARACTER * len(number) / 2 and (tick == round(tick) or not whole):
            parts.append(text.format(x, HEIGHT - 6, "middle", number))
    return Markup("").join(parts)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10000 else f"{value:g}"


def _line(name: str, curve: Curve, number: int, x_range: tuple[float, float], y_ticks: Sequence[float]) -> Markup:
    points = [
        (place(x, x_range, LEFT, WIDTH - RIGHT), place(y, y_ticks, HEIGHT - BOTTOM, TOP), x, y)
        for x, y in curve.items()
    ]
    colour = f"var(--c{number % COLOURS})"
    dash = Markup(' stroke-dasharray="5 3"') if number >= COLOURS else ""
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py, _, _ in points)
    line = Markup('<path class="curve" style="stroke:{}"{} d="{}"/>').format(colour, dash, path)
    if len(points) <= MARKED:
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" style="fill:{}"><title>{}</title></circle>')
        line += Markup("").join(dot.format(px, py, colour, f"{name} {y:.4g} at {x}") for px, py, x, y in points)
    return line


def confusion_table(confusion: np.ndarray, names: Sequence[str]) -> Markup:
    """Returns a confusion matrix as a table of percentages of each row.

    Args:
        confusion: (C, C) counts, true classes by rows, predictions by columns. A class that has no pixels is a row of
            dashes.
        names: of the C classes.
    """
    totals = confusion.sum(1)
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    rows = []
    for name, counts, total in zip(names, confusion, totals, strict=True):
        cells = [_share(count / total if total else math.nan) for count in counts.tolist()]
        rows.append(Markup("<tr><th>{}</th>{}</tr>").format(name, Markup("").join(cells)))
    return Markup(
        '<div class="scroll"><table class="matrix"><thead><tr><td></td>{}</tr></thead>\n<tbody>{}</tbody></table></div>'
    ).format(head, Markup("\n").join(rows))


def _share(share: float) -> Markup:
    if math.isnan(share):
        return Markup("<td>&ndash;</td>")
    text = "" if share < 0.005 else f"{100 * share:.0f}"
    strong = Markup(' class="strong"') if share > 0.78 else ""  # white on a strong colour
    return Markup('<td{} style="background:rgba(31,90,220,{:.2f})">{}</td>').format(strong, share, text)
