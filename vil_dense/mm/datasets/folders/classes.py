"""Finds the classes of a folder of masks: in a file, in mmseg's table of a known data set, or in the masks."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmseg.registry import DATASETS

from vil_dense.files import read_json
from vil_dense.mm.datasets.folders.masks import show, unpacked
from vil_dense.mm.datasets.folders.pairs import few
from vil_dense.mm.datasets.label_ids import IGNORED

FILES = ("classes.json", "classes.csv", "class_dict.csv")
"""Files in the data root that name the classes."""
MOST = 254
"""Classes that fit into 8 bits beside the ignored id."""
SPREAD = 16
"""Ids that are all at least so far apart, as 0, 127 and 255, are grey values that were chosen to be seen."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Ids of the 19 classes in the labelIds files of Cityscapes; all others are ignored there."""


@dataclass(frozen=True)
class LabelClass:
    """Names a class and says which values of a mask are of it.

    Args:
        name: of the class.
        values: ids, or colours as one number; the first is written for it.
        colour: red, green and blue in pictures of the result; None leaves the choice to mmseg.
    """

    name: str
    values: tuple[int, ...]
    colour: tuple[int, int, int] | None = None


@dataclass
class Classes:
    """Holds the classes of a data set and where they are from.

    Args:
        classes: in the order of the model.
        ignored: values that loss and metrics leave out.
        coding: `ids` or `colours`.
        source: as the log says it.
    """

    classes: list[LabelClass]
    ignored: list[int] = field(default_factory=list)
    coding: str = "ids"
    source: str = ""

    @property
    def label_map(self) -> dict[int, int]:
        """Returns the index of the class of each value, 255 for ignored ones."""
        known = {value: index for index, row in enumerate(self.classes) for value in row.values}
        return {value: IGNORED for value in self.ignored} | known

    @property
    def palette(self) -> list[list[int]]:
        """Returns the colours of the classes; empty if one has none."""
        colours = [row.colour for row in self.classes]
        return [list(colour) for colour in colours if colour] if all(colours) else []

    def as_config(self) -> dict[str, Any]:
        """Returns what a config says of the classes: `classes`, `ignore` and `coding` of a data set."""
        colours = self.coding == "colours"
        rows = []
        for row in self.classes:
            codes = [show(value, colours) if colours else value for value in row.values]
            rows.append(dict(name=row.name, id=codes[0] if len(codes) == 1 else codes))
            if row.colour:
                rows[-1]["colour"] = list(row.colour)
        ignore = [show(value, True) if colours else value for value in self.ignored]
        return dict(classes=rows, ignore=ignore, coding=self.coding)


def find_classes(
    root: Path,
    counts: Mapping[int, int],
    *,
    classes: str | Sequence[Any] | None = None,
    ignore: Sequence[int | str] | None = None,
    coding: str = "ids",
    colours: Mapping[int, int] | None = None,
    cityscapes: bool = False,
) -> Classes:
    """Finds the classes: as given, in one of `FILES` below `root`, or one for each value of the masks.

    Args:
        root: the data root.
        counts: pixels of each value in the masks.
        classes: names or rows as in a file, the path of a file, or a data set of mmseg, as `ADE20KDataset`.
        ignore: ids, colours (#rrggbb) or names of classes that count nowhere. By default 255 is ignored, unless it is
            the id of a class.
        coding: of the masks, `ids` or `colours`.
        colours: colour of each id in the palette of the masks.
        cityscapes: whether the masks have the ids of Cityscapes' labelIds files.

    Raises:
        ValueError: rows that cannot be, or values in the masks of which nothing is said.
        FileNotFoundError: there is no such file.
    """
    given: Classes
    if classes is None:
        file = next((root / name for name in FILES if (root / name).is_file()), None)
        classes = str(file) if file else "CityscapesDataset" if cityscapes else None
    if classes is None:
        given = _counted(counts, ignore, coding, colours or {})
    elif isinstance(classes, str) and not classes.endswith((".json", ".csv")):
        given = _of_mmseg(classes, cityscapes)
    elif isinstance(classes, str):
        path = next((path for path in (root / classes, Path(classes)) if path.is_file()), None)
        if path is None:
            raise FileNotFoundError(f"no list of classes at {classes}, nor below {root}")
        given = Classes(parse_rows(read_rows(path), coding, str(path)), source=path.name)
    else:
        given = Classes(parse_rows(classes, coding, "classes"), source="the config")
    given.coding = coding
    return _ignoring(given, counts, ignore, root)


def read_rows(path: Path) -> list[Any]:
    """Reads rows of classes from a JSON (list of names or rows, or name: id) or a CSV (name, id, colour or r, g, b)."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [{(key or "").strip().lower(): cell for key, cell in row.items()} for row in csv.DictReader(file)]
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("classes"), list):
        content = content["classes"]
    if isinstance(content, dict):
        return [dict(name=name, id=id_) for name, id_ in content.items()]
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of classes, got {type(content).__name__}")
    return content


def parse_rows(rows: Sequence[Any], coding: str, source: str) -> list[LabelClass]:
    """Returns the classes of rows: names, or dicts with `name`, and `id` (a value or several) and `colour` if wanted.

    Without ids the classes are counted from 0, and where masks are coded by colours, the colour is the code.

    Raises:
        ValueError: a row without a name, a value or colour that cannot be, or one that two classes have.
    """
    found = []
    for index, row in enumerate(rows):
        row = dict(name=row) if isinstance(row, str) else dict(row) if isinstance(row, Mapping) else {}
        if not row.get("name"):
            raise ValueError(f"{source}: row {index + 1} has no name of a class: {rows[index]!r}")
        name = str(row["name"]).strip()
        colour = row.get("colour", row.get("color"))
        if colour is None and {"r", "g", "b"} <= set(row):
            colour = [row["r"], row["g"], row["b"]]
        code = None if colour in (None, "") else parse_value(colour, True, f"{source}, {name}")
        ids = row.get("id")
        if ids in (None, "") and coding == "colours":
            ids = colour
        if ids in (None, ""):
            if coding == "colours":
                raise ValueError(f"{source}: the masks have colours, and the class {name} has none: add colour")
            ids = index
        several = isinstance(ids, list | tuple) and not (coding == "colours" and _is_rgb(ids))
        listed: list[Any] = [*ids] if several else [ids]  # type: ignore[misc]
        values = [parse_value(value, coding == "colours", f"{source}, {name}") for value in listed]
        if code is None and coding == "colours":
            code = values[0]
        red, green, blue = unpacked(code) if code is not None else (0, 0, 0)
        found.append(LabelClass(name, tuple(values), (red, green, blue) if code is not None else None))
    for what, used in (
        ("name", [row.name for row in found]),
        ("id or colour", [value for row in found for value in row.values]),
    ):
        if twice := [value for value, count in Counter(used).items() if count > 1]:
            raise ValueError(f"{source}: two classes have one {what}: {few(twice)}")
    if not 1 <= len(found) <= MOST:
        raise ValueError(f"{source}: expected 1 to {MOST} classes, got {len(found)}")
    return found


def parse_value(value: Any, colour: bool, where: str) -> int:
    """Returns an id, or a colour (#rrggbb, or red, green, blue) as one number; raises ValueError for another thing."""
    text = str(value).strip()
    if colour:
        if re.fullmatch("#[0-9a-fA-F]{6}", text):
            return int(text[1:], 16)
        parts = value if isinstance(value, list | tuple) else re.findall(r"\d+", text)
        if len(parts) == 3 and all(str(part).strip().isdecimal() and int(part) < 256 for part in parts):
            return int(parts[0]) << 16 | int(parts[1]) << 8 | int(parts[2])
        raise ValueError(f"{where}: a colour is #rrggbb, or red, green and blue from 0 to 255, got {value!r}")
    if text.isdecimal() and int(text) < 2**31:
        return int(text)
    raise ValueError(f"{where}: an id is a whole number from 0 on, got {value!r}")


def _is_rgb(value: Sequence[Any]) -> bool:
    return len(value) == 3 and not any(isinstance(part, str) and part.startswith("#") for part in value)


def _of_mmseg(kind: str, cityscapes: bool) -> Classes:
    """Returns the classes of a data set of mmseg, with the ids of its files."""
    found = DATASETS.get(kind)
    meta = getattr(found, "METAINFO", {})
    if not meta.get("classes"):
        raise ValueError(f"classes={kind!r} is neither a .json or .csv file nor a data set of mmseg with classes")
    default = signature(found).parameters.get("reduce_zero_label")
    first = int(bool(default and default.default is True))
    ids = CITYSCAPES_IDS if cityscapes else range(first, first + len(meta["classes"]))
    palette = meta.get("palette") or [None] * len(meta["classes"])
    rows = [
        LabelClass(name, (id_,), tuple(colour) if colour else None)
        for name, id_, colour in zip(meta["classes"], ids, palette, strict=True)
    ]
    others = [id_ for id_ in range(34) if id_ not in CITYSCAPES_IDS] if cityscapes else [0] * first
    return Classes(rows, others, source=kind)


def _counted(
    counts: Mapping[int, int], ignore: Sequence[int | str] | None, coding: str, colours: Mapping[int, int]
) -> Classes:
    """Returns a class for each value of the masks; 255 is ignored if the other ids are neighbours."""
    values = sorted(counts)
    gaps = [second - first for first, second in pairwise(values)]
    left_out = {parse_value(value, coding == "colours", "ignore") for value in ignore or ()}
    if coding == "ids" and ignore is None and len(values) > 2 and min(gaps) < SPREAD:
        left_out.add(IGNORED)
    kept = [value for value in values if value not in left_out]
    if len(kept) > MOST:
        raise ValueError(
            f"the masks hold {len(kept)} values, too many to be classes: are they masks? If they are, name the classes "
            f"in classes.json"
        )
    rows = []
    for value in kept:
        code = value if coding == "colours" else colours.get(value)
        red, green, blue = unpacked(code) if code is not None else (0, 0, 0)
        name = show(value, coding == "colours")
        rows.append(LabelClass(name, (value,), (red, green, blue) if code is not None else None))
    if len({row.colour for row in rows}) < len(rows):  # a palette without colours
        rows = [LabelClass(row.name, row.values) for row in rows]
    return Classes(rows, sorted(left_out), source="the values of the masks")


def _ignoring(given: Classes, counts: Mapping[int, int], ignore: Sequence[int | str] | None, root: Path) -> Classes:
    """Adds the ignored values, and raises ValueError if masks hold others of which nothing is said."""
    colours = given.coding == "colours"
    names = {row.name: row for row in given.classes}
    for entry in ignore or ():
        if row := names.get(str(entry)):
            given.classes.remove(row)
            given.ignored += row.values
        else:
            given.ignored.append(parse_value(entry, colours, "ignore"))
    known = given.label_map
    if not colours and ignore is None and IGNORED not in known:
        given.ignored.append(IGNORED)
        known = given.label_map
    taken = {value for row in given.classes for value in row.values}
    given.ignored = sorted({*given.ignored} - taken)
    if strange := [value for value in sorted(counts) if value not in known]:
        share = 100 * sum(counts[value] for value in strange) / max(1, sum(counts.values()))
        shown, first = few(show(value, colours) for value in strange), show(strange[0], colours)
        raise ValueError(
            f"the masks in {root} hold {shown} ({share:.2g} % of the pixels), which none of the classes of "
            f"{given.source} has: add classes, or set ignore, as in ignore={[first if colours else strange[0]]}"
        )
    if len(given.classes) < 1:
        raise ValueError(f"the masks in {root} hold no value that is not ignored")
    return given
