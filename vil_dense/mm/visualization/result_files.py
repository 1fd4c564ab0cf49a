"""Writes the results of an evaluation as files, and reads them again for a comparison of runs.

A folder of results has `result.json` (metrics, data, protocol), `per_class.csv`, and of segmentors of pictures
`per_image.csv`, `confusion.csv` (pixels, true classes by rows) and `label_maps.zip`, small label maps of truth and
prediction: `N_truth.png` and `N_prediction.png` for row N, from 0, of `per_image.csv`.
"""

import csv
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vil_dense.files import read_json, save_csv, write_whole
from vil_dense.report import read_labels

VALUES = ("mIoU", "mBIoU", "accuracy", "cross_entropy")
"""Columns of `per_image.csv` with one number for the whole picture."""
LARGEST_BYTES = 4 * 2**20
"""Label maps of a report are small; larger ones in an archive are not read."""


def save_confusion(path: Path, confusion: np.ndarray, names: Sequence[str]) -> None:
    """Writes a confusion matrix, (C, C) counts, with the names of the classes; equal names get a number."""
    columns = [name if list(names).count(name) == 1 else f"{name} {n}" for n, name in enumerate(names)]
    rows = [
        {"true class": name, **dict(zip(columns, counts, strict=True))}
        for name, counts in zip(columns, confusion.tolist(), strict=True)
    ]
    save_csv(path, rows)


def save_label_maps(path: Path, maps: Sequence[tuple[bytes, bytes]]) -> None:
    """Writes the PNG files of truth and prediction of each picture to an archive."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w") as archive:  # PNG is compressed
            for number, pair in enumerate(maps):
                for name, content in zip(("truth", "prediction"), pair, strict=True):
                    archive.writestr(f"{number}_{name}.png", content)

    write_whole(path, write)


@dataclass
class Result:
    """Holds the results of a run, as read from its folder.

    Attributes:
        folder: with the files of the results.
        facts: the content of `result.json`.
        classes: IoU (or the first number) of each class in %, by name.
        pictures: rows of `per_image.csv` by file, each with its `row`, from 0.
    """

    folder: Path
    facts: dict[str, Any]
    classes: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)

    def values(self, column: str, files: Sequence[str]) -> list[float]:
        """Returns a number of each of `files`; NaN where its cell is empty."""
        return [number(self.pictures[file].get(column)) for file in files]

    def label_maps(self, file: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the small label maps of a picture, truth and prediction, (H, W) uint8; None if there are none.

        Raises:
            ValueError: the archive cannot be read.
        """
        path, row = self.folder / "label_maps.zip", self.pictures[file]["row"]
        if not path.is_file():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                names = [f"{row}_{name}.png" for name in ("truth", "prediction")]
                if any(archive.getinfo(name).file_size > LARGEST_BYTES for name in names):
                    raise ValueError(f"{names[0]} is larger than {LARGEST_BYTES} bytes")
                truth, prediction = (read_labels(archive.read(name)) for name in names)
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} holds no label maps of {file}: {error}") from None
        return truth, prediction

    def palette(self) -> list[list[int]]:
        """Returns the RGB of each class; empty if the data set had no colours."""
        return [list(map(int, colour)) for colour in self.facts.get("palette", [])]


def number(text: str | None) -> float:
    """Returns the number in a cell of a table; NaN for an empty one."""
    return float(text) if text else math.nan


def read_result(run: Path) -> Result:
    """Reads the results in the work folder of a training or a test.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a file of them cannot be read.
    """
    places = [run, run / "pictures"]
    folder = next((place for place in places if (place / "result.json").is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"no result.json at {run}: a work folder of tools/train.py or tools/test.py has one")
    facts = read_json(folder / "result.json")
    if not isinstance(facts, dict) or not isinstance(facts.get("metrics"), dict):
        raise ValueError(f"{folder / 'result.json'} is no result of a run: it needs metrics")
    rows = _read_rows(folder / "per_class.csv", "class")
    classes = {row["class"]: number(list(row.values())[1]) for row in rows}
    rows = _read_rows(folder / "per_image.csv", "file")
    pictures = {row["file"]: {**row, "row": str(n)} for n, row in enumerate(rows)}
    return Result(folder, facts, classes, pictures)


def _read_rows(path: Path, key: str) -> list[dict[str, str]]:
    """Reads a table; one that is not there is empty."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for name, cell in row.items():
                if None in (name, cell):
                    raise ValueError("a row has another length than the header")
                if name not in ("file", "path", "class"):
                    number(cell)
        if not rows or key not in rows[0]:
            raise ValueError(f"it has no column {key}")
        return rows
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no table of results: {error}") from None


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics that are finite numbers, which JSON can hold."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
