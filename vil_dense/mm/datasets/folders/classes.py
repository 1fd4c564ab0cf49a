"""Finds the classes of a folder of masks: in a file, in mmseg's table of a known data set, or in the masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmseg.registry import DATASETS

from vil_dense.mm.datasets.folders.class_rows import MOST, LabelClass, are_colours, parse_rows, parse_value, read_rows
from vil_dense.mm.datasets.folders.masks import Values, show, unpacked
from vil_dense.mm.datasets.folders.pairs import few
from vil_dense.mm.datasets.label_ids import IGNORED

FILES = ("classes.json", "classes.csv", "class_dict.csv")
"""Files in the data root that name the classes."""
SPREAD = 16
"""Ids that are all at least so far apart, as 0, 127 and 255, are grey values that were chosen to be seen."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Ids of the 19 classes in the labelIds files of Cityscapes; all others are ignored there."""


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
    values: Values,
    *,
    classes: str | Sequence[Any] | None = None,
    ignore: Sequence[int | str] | None = None,
    coding: str | None = None,
    cityscapes: bool = False,
) -> Classes:
    """Finds the classes: as given, in one of `FILES` below `root`, or one for each value of the masks.

    Args:
        root, values: the data root, and the values of its masks.
        classes: names or rows as in a file, the path of a file, or a data set of mmseg, as `ADE20KDataset`.
        ignore: ids, colours (#rrggbb) or names of classes that count nowhere. By default 255 is ignored, unless it is
            the id of a class.
        coding: of the masks, `ids` or `colours`. By default colours, if a mask has some, or if masks have palettes and
            all classes have a colour and no id.
        cityscapes: whether the masks have the ids of Cityscapes' labelIds files.

    Raises:
        ValueError: rows that cannot be, or values in the masks of which nothing is said.
        FileNotFoundError: there is no such file.
    """
    classes = _usual(root, cityscapes) if classes is None else classes
    rows, source = _listed(classes, root)
    coding = coding or _coding_of(values, rows)
    if coding == "ids" and values.coloured:
        raise ValueError(f"{values.coloured} has colours, and coding='ids' was asked for")
    counts = values.colours if coding == "colours" else values.ids
    if rows is not None:
        found = Classes(parse_rows(rows, coding, source), [], coding, source)
    elif isinstance(classes, str):
        found = _of_mmseg(classes, cityscapes and classes == "CityscapesDataset")
    else:
        found = _counted(counts, ignore, coding, values.palette)
    found.coding = coding
    _add_ignored(found, ignore)
    _check_values(found, counts, root)
    return found


def _usual(root: Path, cityscapes: bool) -> str | None:
    file = next((root / name for name in FILES if (root / name).is_file()), None)
    return str(file) if file else "CityscapesDataset" if cityscapes else None


def _coding_of(values: Values, rows: Sequence[Any] | None) -> str:
    by_colour = values.coloured or (values.palette and rows is not None and are_colours(rows))
    return "colours" if by_colour else "ids"


def _listed(classes: str | Sequence[Any] | None, root: Path) -> tuple[list[Any] | None, str]:
    """Returns the rows of a list of classes, or of the file that holds one, and their source; None for others."""
    if not isinstance(classes, str):
        return (None if classes is None else list(classes)), "the config"
    if not classes.endswith((".json", ".csv")):
        return None, classes
    path = next((path for path in (root / classes, Path(classes)) if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no list of classes at {classes}, nor below {root}")
    return read_rows(path), path.name


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


def _add_ignored(found: Classes, ignore: Sequence[int | str] | None) -> None:
    """Adds what is ignored by `ignore`; without it 255, unless it is the id of a class."""
    colours, names = found.coding == "colours", {row.name: row for row in found.classes}
    for entry in ignore or ():
        if row := names.get(str(entry)):
            found.classes.remove(row)
            found.ignored += row.values
        else:
            found.ignored.append(parse_value(entry, colours, "ignore"))
    if not colours and ignore is None:
        found.ignored.append(IGNORED)
    found.ignored = sorted({*found.ignored} - {value for row in found.classes for value in row.values})


def _check_values(found: Classes, counts: Mapping[int, int], root: Path) -> None:
    """Raises ValueError if the masks hold values of which nothing is said, or no class is left."""
    colours, known = found.coding == "colours", found.label_map
    if strange := [value for value in sorted(counts) if value not in known]:
        share = 100 * sum(counts[value] for value in strange) / max(1, sum(counts.values()))
        shown, first = few(show(value, colours) for value in strange), show(strange[0], colours)
        raise ValueError(
            f"the masks in {root} hold {shown} ({share:.2g} % of the pixels), which none of the classes of "
            f"{found.source} has: add classes, or set ignore, as in ignore={[first if colours else strange[0]]}"
        )
    if not found.classes:
        raise ValueError(f"the masks in {root} hold no value that is not ignored")
