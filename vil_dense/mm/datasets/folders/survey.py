"""Inspects a folder of pictures and masks: layout, split, sizes, classes, and what is left out and why."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import ExifTags, Image

from vil_dense.files import sample_evenly
from vil_dense.mm.datasets.folders.classes import Classes, find_classes
from vil_dense.mm.datasets.folders.layouts import CITYSCAPES, find_layout
from vil_dense.mm.datasets.folders.masks import count_values, show
from vil_dense.mm.datasets.folders.pairs import Pair, few
from vil_dense.mm.datasets.folders.split import choose_split
from vil_dense.mm.datasets.pictures import FORMATS
from vil_dense.progress import Progress

READ_MOST = 1000
"""Pairs that are read in whole, evenly spread; of the others the files are only opened, for their sizes."""

MOST_VALUES = 4096
"""Values of a mask; a file with more is a picture."""


@dataclass
class Folder:
    """Holds what `inspect_folder` found.

    Args:
        root: the folder below which pictures and masks lie.
        splits: pairs of `train` and `val`.
        classes: the classes, and the values of the masks.
        sizes: height and width of each picture, (N, 2) px.
        lines: what there is to say of it.
    """

    root: Path
    splits: dict[str, list[Pair]]
    classes: Classes
    sizes: np.ndarray
    lines: list[str] = field(default_factory=list)


@dataclass
class Values:
    """Counts the pixels of each value over masks."""

    ids: Counter[int] = field(default_factory=Counter)
    colours: Counter[int] = field(default_factory=Counter)
    palette: dict[int, int] = field(default_factory=dict)
    coloured: str = ""
    """A mask with colours."""
    mixed: str = ""
    """A mask whose palette has another colour for an id than a mask before."""
    read: int = 0


def inspect_folder(
    data_root: str,
    *,
    pictures: str = "",
    masks: str = "",
    classes: str | Sequence[Any] | None = None,
    ignore: Sequence[int | str] | int | str | None = None,
    coding: str | None = None,
    split_by: str | None = None,
    val_share: float = 0.2,
    split_seed: int = 0,
) -> Folder:
    """Inspects a folder of pictures and masks.

    Files that cannot be read are left out with a line, unless a list names them.

    Args:
        data_root: the folder.
        pictures, masks: see `layouts.find_layout`.
        classes, ignore: see `classes.find_classes`.
        coding: `ids` or `colours` of the masks; by default colours, if a mask has some.
        split_by, val_share, split_seed: see `split.draw_split`.

    Raises:
        FileNotFoundError: no layout fits, or a list names files that are not there.
        ValueError: layout, names, masks or classes cannot be used; says what to do.
    """
    if coding not in (None, "ids", "colours"):
        raise ValueError(f"coding is 'ids' or 'colours', got {coding!r}")
    found = find_layout(Path(data_root), pictures, masks)
    ignore = [ignore] if isinstance(ignore, int | str) else ignore
    split = choose_split(found, val_share=val_share, seed=split_seed, split_by=split_by)
    splits = split.pairs
    sizes, values, faults = _read(splits, coding)
    if faults and split.listed:
        some = "; ".join([*faults.values()][:3])
        raise ValueError(f"{len(faults)} files that {split.source} names cannot be used: {some}")
    splits = {name: [pair for pair in pairs if pair.picture not in faults] for name, pairs in splits.items()}
    if empty := [name for name, pairs in splits.items() if not pairs]:
        raise ValueError(f"no pair for {empty[0]} is left in {data_root}: {'; '.join([*faults.values()][:3])}")
    coding = coding or ("colours" if values.coloured else "ids")
    if coding == "ids" and values.coloured:
        raise ValueError(f"{values.coloured} has colours, and coding='ids' was asked for")
    counts = values.colours if coding == "colours" else values.ids
    label_ids = found.layout.name == CITYSCAPES and all(
        pair.mask.stem.endswith("labelIds") for pairs in splits.values() for pair in pairs
    )
    named = find_classes(
        found.root, counts, classes=classes, ignore=ignore, coding=coding, colours=values.palette, cityscapes=label_ids
    )
    lines = [
        f"data: {found.root}, {found.layout.name} ({found.folders}); {len(splits['train'])} pairs to train, "
        f"{len(splits['val'])} to validate (split: {split.source})",
        f"sizes (height x width): {describe_sizes(sizes)}",
        describe_classes(named, counts, values.read, len(sizes) + len(faults)),
    ]
    if values.mixed and coding == "ids":
        lines.append(f"warning: {values.mixed} has other colours in its palette than masks before; its ids were taken")
    notes = list(found.notes)
    if left := sum(map(len, found.pairs.values())) - sum(map(len, split.pairs.values())):
        notes.append(f"{left} pairs in no list")
    if faults:
        notes.append(f"{len(faults)} pairs that cannot be read: {'; '.join([*faults.values()][:3])}")
    if notes:
        lines.append(f"left out: {'; '.join(notes)}")
    return Folder(found.root, splits, named, sizes, lines)


def _read(splits: Mapping[str, Sequence[Pair]], coding: str | None) -> tuple[np.ndarray, Values, dict[Path, str]]:
    """Reads pairs, `READ_MOST` of them in whole; returns sizes, values, and a sentence on each that cannot be read."""
    pairs = list({pair.picture: pair for split in splits.values() for pair in split}.values())
    values, sizes, faults = Values(), [], {}
    with Progress("data", lambda line: print_log(line, "current")) as progress:
        for done, index in enumerate(sample_evenly(len(pairs))):
            pair, whole = pairs[index], done < READ_MOST
            try:
                size = picture_size(pair.picture, whole)
                if whole:
                    _add(values, pair.mask)
                sizes.append(size)
            except ValueError as error:
                faults[pair.picture] = str(error)
            progress(done + 1, len(pairs))
    return np.array(sizes, dtype=np.int64).reshape(-1, 2), values, faults


def _add(values: Values, mask: Path) -> None:
    counted = count_values(mask)
    if len(counted.colours) > MOST_VALUES:
        raise ValueError(f"{mask} holds {len(counted.colours)} values: it is a picture, not a mask")
    values.read += 1
    values.colours.update(counted.colours)
    if counted.ids is None:
        values.coloured = values.coloured or str(mask)
    else:
        values.ids.update(counted.ids)
    if any(values.palette.get(id_, colour) != colour for id_, colour in counted.palette.items()):
        values.mixed = values.mixed or str(mask)
    values.palette.update(counted.palette)


def picture_size(path: Path, whole: bool = False) -> tuple[int, int]:
    """Returns height and width of a picture in px, turned by its EXIF orientation.

    Args:
        path: of the picture.
        whole: read it to the end, so that a damaged one is found.

    Raises:
        ValueError: it is damaged, or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half of Pillow's limit on
            with Image.open(path, formats=FORMATS) as picture:
                if whole:
                    picture.load()
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
                width, height = picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a complete picture: {error}") from None
    return (width, height) if turned else (height, width)


def describe_sizes(sizes: np.ndarray) -> str:
    """Returns the range of heights and widths, (N, 2) px, and their medians."""
    (low, high), (height, width) = (sizes.min(0), sizes.max(0)), np.median(sizes, 0).astype(int)
    if (low == high).all():
        return f"{low[0]} x {low[1]} px, all {len(sizes)} pictures"
    return f"{low[0]} x {low[1]} to {high[0]} x {high[1]} px, median {height} x {width}"


def describe_classes(named: Classes, counts: Mapping[int, int], read: int, pairs: int) -> str:
    """Returns the classes with their share of the pixels, as a line for the log."""
    total, colours = max(1, sum(counts.values())), named.coding == "colours"

    def share(values: Sequence[int]) -> str:
        return f"{100 * sum(counts.get(value, 0) for value in values) / total:.2f} %"

    def code(values: Sequence[int]) -> str:
        return few(show(value, colours) for value in values)

    shown = [
        f"{row.name} {share(row.values)}" + ("" if code(row.values) == row.name else f" (in files {code(row.values)})")
        for row in named.classes
    ]
    used = [value for value in named.ignored if counts.get(value)]
    ignored = f"{code(used)}, {share(used)} of the pixels" if used else "no pixel"
    where = f"from {named.source}, {read} of {pairs} masks read"
    return f"classes: {len(named.classes)} ({where}): {', '.join(shown)}; ignored: {ignored}"
