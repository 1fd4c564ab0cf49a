"""Tests parts of pages: text is escaped, numbers that are not finite leave no trace, tables hold what they got."""

import math
from pathlib import Path

import numpy as np
import pytest
from page_checks import Page, check_page

from vil_dense.report import confusion_table, facts, gallery, jpeg_uri, line_chart, link, page, save_page, table, tiles
from vil_dense.report.charts import round_ticks

EVIL = '<script>alert("1")</script>&'


def test_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "a #1.csv").touch()
    parts = [
        tiles({EVIL: EVIL}),
        facts({EVIL: EVIL, "file": link("a #1.csv", EVIL)}),
        table([EVIL, "n"], [(EVIL, 1.0)]),
        line_chart(EVIL, {EVIL: {1: 1.0, 2: 2.0}}),
        confusion_table(np.eye(2, dtype=int), [EVIL, "b"]),
        gallery({EVIL: jpeg_uri(np.zeros((4, 6, 3), np.uint8))}),
    ]
    save_page(tmp_path / "report.html", page(EVIL, [parts[0]], {"All parts": parts, "None": []}))
    found = check_page(tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.html").read_text()
    assert found.text.count("alert") >= 10 and "None" not in found.text
    assert found.all("h1") and [a["href"] for a in found.all("a")] == ["#all-parts", "a%20%231.csv"]


def test_table_shows_numbers() -> None:
    html = table(["class", "IoU", "pixels"], [("a", 12.345, 1234567), ("b", math.nan, None)])
    assert "12.35" in html or "12.34" in html
    assert "1,234,567" in html and html.count("&ndash;") == 2 and "nan" not in html


def test_chart_has_a_line_for_each_curve() -> None:
    html = line_chart("loss", {"a": {0: 1.0, 5: math.nan, 10: 3.0}, "b": {n: n / 7 for n in range(100)}, "c": {}})
    found = Page(html)
    assert len(found.all("path")) == 2 and "nan" not in html
    assert len(found.all("circle")) == 2  # those of the short curve without the point that is not finite
    numbers = [float(x) for a in found.all("path") for x in a["d"].replace("M", "").replace("L", " ").split()]
    assert all(0 <= x <= 360 for x in numbers)
    assert line_chart("loss", {"a": {1: math.inf}, "b": {}}) == ""


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 100], [0, 20, 40, 60, 80, 100]),
        ([0.31, 0.69], [0.3, 0.4, 0.5, 0.6, 0.7]),
        ([5, 5], [2, 3, 4, 5, 6, 7, 8]),
        ([-1, 1], [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_include_the_values(values: list[float], ticks: list[float]) -> None:
    found = round_ticks(values, 5)
    assert found[0] <= min(values) and found[-1] >= max(values)
    np.testing.assert_allclose(found, ticks, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-30, -3.0, 1e300, 123456.0])
def test_ticks_of_equal_values(value: float) -> None:
    found = round_ticks([value, value], 5)
    assert found[0] < value < found[-1] and len(found) < 12


def test_confusion_is_by_rows() -> None:
    found = Page(confusion_table(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]]), ["a", "b", "c"]))
    text = found.text.split()
    assert text == ["a", "b", "c", "a", "75", "25", "b", *["–"] * 3, "c", "50", "50"]  # noqa: RUF001
