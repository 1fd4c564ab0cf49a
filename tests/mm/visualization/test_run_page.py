"""Sections of a run's page: which pictures are shown, and matrices that are too large to show."""

from pathlib import Path

import numpy as np
from markupsafe import Markup
from page_checks import Page

from vil_dense.mm.visualization.run_page import (
    Picture,
    class_section,
    confusion_section,
    picture_section,
)
from vil_dense.report import choose_pictures, indexed_png


def test_worst_best_and_random_pictures_are_others() -> None:
    scores = np.random.default_rng(0).permutation(20).astype(float)
    scores[3] = np.nan
    chosen = choose_pictures(scores.tolist(), each=4)
    ranked = [int(n) for n in np.argsort(scores) if n != 3]
    assert chosen["worst"] == ranked[:4] and chosen["best"] == ranked[:-5:-1]
    numbers = [n for some in chosen.values() for n in some]
    assert len(numbers) == len({*numbers}) == 12 and 3 not in numbers
    assert choose_pictures(scores.tolist(), each=4) == chosen
    few = choose_pictures([5.0, 1.0, 3.0], each=2)
    assert few == dict(worst=[1, 2], best=[0], random=[])


def test_large_matrix_is_a_list_of_the_largest_confusions() -> None:
    names = [f"class {n}" for n in range(40)]
    confusion = np.diag(np.full(40, 90))
    confusion[7, 3], confusion[2, 1] = 10, 30
    note, table = confusion_section(confusion, names)
    assert "confusion.csv" in note
    cells = [text for text in Page(table).texts if text.strip()][4:]
    assert cells == ["class 2", "class 1", "25.00", "30", "class 7", "class 3", "10.00", "10"]
    assert confusion_section(None, names) == []


def test_classes_without_a_number_have_no_bar() -> None:
    table, note = class_section(("class", "IoU", "pixels"), [("a", 25.0, 3), ("b", float("nan"), 0)])
    assert [tag["style"] for tag in Page(table).all("i")] == ["width:25.0%", "width:0.0%"]
    assert "dash" in note and class_section(("class", "IoU"), []) == []


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no picture")
    png = indexed_png(np.array([[0, 1]]), [(0, 0, 0), (9, 9, 9)])
    pictures = [Picture("x.jpg", str(path), 50.0, png, png) for path in (tmp_path / "x.jpg", tmp_path / "none.jpg")]
    html = Markup("").join(picture_section(dict(worst=pictures), ["a", "b"], [(0, 0, 0), (9, 9, 9)]))
    page = Page(html)
    assert page.text.count("cannot be read") == 2 and len(page.all("img")) == 2 * 3
