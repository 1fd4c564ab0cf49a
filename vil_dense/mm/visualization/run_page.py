"""Builds the sections of a run's report: curves, classes, confusion matrix and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
from markupsafe import Markup

from vil_dense.report import (
    bar,
    confusion_table,
    error_map,
    gallery,
    jpeg_uri,
    line_chart,
    png_uri,
    read_labels,
    swatches,
    table,
)
from vil_dense.report.charts import Curve, charts
from vil_dense.report.page import heading, note

LARGEST_MATRIX = 30
"""Classes of a confusion matrix that a page shows; of more it lists the largest confusions."""
LISTED = 40


class Picture(NamedTuple):
    """Holds a picture of a report: its name, file, score in % and the PNG files of its label maps."""

    name: str
    path: str
    score: float
    truth: bytes
    prediction: bytes


def curve_section(curves: Mapping[str, Mapping[str, Curve]]) -> list[Markup]:
    """Returns a chart for each title with its curves; empty if nothing was logged."""
    figures = [line_chart(title, named) for title, named in curves.items()]
    return [charts(figures)] if any(figures) else []


def class_section(columns: Sequence[str], rows: Sequence[Sequence]) -> list[Markup]:
    """Returns a table of the classes with a bar for its first number."""
    if not rows:
        return []
    name, first, *others = columns
    cells = [(row[0], row[1], bar(float(row[1])), *row[2:]) for row in rows]
    return [
        table([text.replace("_", " ") for text in (name, first, "", *others)], cells),
        note("A dash: the class is neither labelled nor predicted; the mean leaves it out."),
    ]


def confusion_section(confusion: np.ndarray | None, names: Sequence[str]) -> list[Markup]:
    """Returns the confusion matrix, or the largest confusions of more than `LARGEST_MATRIX` classes."""
    if confusion is None:
        return []
    if len(names) <= LARGEST_MATRIX:
        rule = "Percentages of the true class (rows) by predicted class (columns). Cells below 0.5 % are empty."
        return [note(rule), confusion_table(confusion, names)]
    totals = np.maximum(confusion.sum(1, keepdims=True), 1)
    wrong = confusion - np.diag(np.diag(confusion))
    pairs = np.argsort(wrong, axis=None, kind="stable")[::-1][:LISTED]
    places = [divmod(int(pair), len(names)) for pair in pairs if wrong.flat[pair]]
    rows = [
        (names[true], names[found], 100 * float(wrong[true, found] / totals[true, 0]), int(wrong[true, found]))
        for true, found in places
    ]
    return [
        note(f"The {len(rows)} largest confusions of {len(names)} classes; confusion.csv has the whole matrix."),
        table(["true class", "predicted as", "% of the true class", "count"], rows),
    ]


def picture_section(
    chosen: Mapping[str, Sequence[Picture]], names: Sequence[str], palette: Sequence[Sequence[int]]
) -> list[Markup]:
    """Returns rows of picture, truth, prediction and error map, by heading; and the colours of the classes in them."""
    rows: list[Markup] = []
    seen: set[int] = set()
    for title, pictures in chosen.items():
        rows += [heading(title.capitalize())] if pictures else []
        for picture in pictures:
            truth, prediction = read_labels(picture.truth), read_labels(picture.prediction)
            seen |= {*np.unique(truth).tolist(), *np.unique(prediction).tolist()}
            image = image_of(picture.path, picture.name)
            images = {
                **image,
                "truth": png_uri(picture.truth),
                "prediction": png_uri(picture.prediction),
                "errors": png_uri(error_map(truth, prediction)),
            }
            rows += [note(f"{picture.name}: mIoU {picture.score:.1f}{shown(image)}"), gallery(images)]
    return [class_colours(seen, names, palette), *rows] if rows else []


def class_colours(seen: set[int], names: Sequence[str], palette: Sequence[Sequence[int]]) -> Markup:
    """Returns the colours of the classes with an id in `seen`."""
    colours = {names[n]: f"rgb{tuple(map(int, palette[n]))}" for n in sorted(seen) if n < len(names)}
    return swatches({**colours, "unlabelled": "rgb(128, 128, 128)"})


def image_of(path: str, name: str) -> dict[str, str]:
    """Returns a picture as a data URI by its caption; empty if its file is not there, or OpenCV cannot read it."""
    image = mmcv.imread(path) if Path(path).is_file() else None  # in RGB order it would raise instead of None
    return {f"picture {name}": jpeg_uri(np.ascontiguousarray(image[..., ::-1]))} if image is not None else {}


def shown(picture: Mapping[str, str]) -> str:
    """Returns what to say of a picture that is left out; empty if it is there."""
    return "" if picture else " (the file of the picture cannot be read)"
