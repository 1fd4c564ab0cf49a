"""Reads the classes that a user lists: names, ids and colours, in a config, a JSON or a CSV."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vil_dense.files import read_json
from vil_dense.mm.datasets.folders.masks import unpacked
from vil_dense.mm.datasets.folders.pairs import few, read_text

MOST = 254
"""Classes that fit into 8 bits beside the ignored id."""


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


def read_rows(path: Path) -> list[Any]:
    """Reads rows of classes from a JSON (list of names or rows, or name: id) or a CSV (name, id, colour or r, g, b)."""
    if path.suffix == ".csv":
        table = csv.DictReader(read_text(path).splitlines())
        return [{(key or "").strip().lower(): cell for key, cell in row.items()} for row in table]
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
    _check_rows(found, source)
    return found


def _check_rows(rows: Sequence[LabelClass], source: str) -> None:
    for what, used in (
        ("name", [row.name for row in rows]),
        ("id or colour", [value for row in rows for value in row.values]),
    ):
        if twice := [value for value, count in Counter(used).items() if count > 1]:
            raise ValueError(f"{source}: two classes have one {what}: {few(twice)}")
    if not 1 <= len(rows) <= MOST:
        raise ValueError(f"{source}: expected 1 to {MOST} classes, got {len(rows)}")


def are_colours(rows: Sequence[Any]) -> bool:
    """Returns whether all rows have a colour and none has an id."""
    keys = [set(row) if isinstance(row, Mapping) else set() for row in rows]
    return all("id" not in found and ({"colour", "color"} & found or {"r", "g", "b"} <= found) for found in keys)


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
