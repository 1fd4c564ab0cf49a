"""Tests charts of points: each has its place and name, and numbers that are not finite leave no trace."""

import math
import re

from page_checks import Page

from vil_dense.report import Point, scatter_chart, strip_chart
from vil_dense.report.charts import HEIGHT, WIDTH
from vil_dense.report.points import NAMED_POINTS

EVIL = "<script>&"


def test_points_and_lines() -> None:
    points = [Point("a", 1.0, -2.0), Point(EVIL, 3.0, 4.0), Point("c", math.nan, 1.0)]
    html = scatter_chart(EVIL, points, "mean, ml", "difference, ml", {"bias": 1.0, "low": math.nan, "high": 9.0})
    page = Page(html)
    dots = page.all("circle")
    assert len(dots) == 2 and "script>" not in html.replace("&lt;script&gt;", "") and "nan" not in html
    (x1, y1), (x2, y2) = ((float(dot["cx"]), float(dot["cy"])) for dot in dots)
    assert 0 < x1 < x2 < WIDTH and 0 < y2 < y1 < HEIGHT, "up is more"
    levels = [float(line["y1"]) for line in page.all("line") if line["class"] == "level"]
    assert len(levels) == 2 and levels[1] < y2 < levels[0] < y1, "the axis has room for the lines"
    assert "difference, ml -2" in page.text and "bias" in page.text and "low" not in page.text
    assert scatter_chart("t", points[2:], "x", "y") == ""


def test_numbers_leave_the_name_of_their_axis_free() -> None:
    html = scatter_chart("t", [Point("a", 2.351, 1.0), Point("b", 2.445, 2.0)], "mean of both, ml", "ml")
    row = re.findall(rf'<text x="([\d.]+)" y="{HEIGHT - 6}" text-anchor="(\w+)">([^<]+)', html)
    (end, _, name), *numbers = [(float(x), anchor, text) for x, anchor, text in row]
    assert len(numbers) > 1 and name == "mean of both, ml 2.46"
    assert all(x + 5.5 * len(text) / 2 < end - 5.5 * len(name) for x, _, text in numbers)


def test_strips_have_their_mean() -> None:
    groups = {"organ": {"a": 0.5, "b": 0.7, "c": math.nan}, "vessel": {"a": 0.9}, "none": {"a": math.nan}}
    page = Page(strip_chart("Dice", groups))
    assert len(page.all("circle")) == 3 and "none" not in page.text and "organ, mean 0.6" in page.text
    means = [float(line["x1"]) for line in page.all("line") if line["class"] == "level"]
    xs = [float(dot["cx"]) for dot in page.all("circle")]
    assert abs(means[0] - (xs[0] + xs[1]) / 2) < 0.2 and means[1] == xs[2]
    assert strip_chart("Dice", {}) == "" and strip_chart("Dice", {"none": {"a": math.nan}}) == ""


def test_many_points_are_one_path() -> None:
    values = {f"{n}": n / 1000 for n in range(NAMED_POINTS + 1)}
    page = Page(strip_chart("Dice", {"organ": values}))
    (path,) = page.all("path")
    assert path["d"].count("M") == NAMED_POINTS + 1 and page.all("circle") == []
