"""Inspects a folder of pictures and masks: layout, split, sizes, classes, and what is left out and why."""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import ExifTags, UnidentifiedImageError

from vil_dense.files import sample_evenly
from vil_dense.mm.datasets.folders.classes import Classes, find_classes
from vil_dense.mm.datasets.folders.layouts import CITYSCAPES, Found, find_layout
from vil_dense.mm.datasets.folders.masks import Values, show
from vil_dense.mm.datasets.folders.pairs import Pair, few
from vil_dense.mm.datasets.folders.split import Split, choose_split, read_splits
from vil_dense.mm.datasets.pictures import open_picture
from vil_dense.mm.datasets.transforms.raster import open_raster, read_bands
from vil_dense.progress import Progress

KINDS = dict(
    pages="warning: only the first page is read of",
    deep="more than 8 bits, which only LoadImageFromFile(color_type='unchanged') and LoadRasterFromFile keep",
    raster="pictures that only LoadRasterFromFile loads",
)
"""Describes kinds of pictures that not every pipeline loads."""
READ_MOST = 1000
"""Pairs that are read in whole, evenly spread; of the others the files are only opened, for their sizes."""


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
    split_file: Path | None = None,
) -> Folder:
    """Inspects a folder of pictures and masks.

    Files that cannot be read are left out with a line, unless a list names them.

    Args:
        data_root: the folder.
        pictures, masks: see `layouts.find_layout`.
        classes, ignore: see `classes.find_classes`.
        coding: `ids` or `colours` of the masks; by default colours, if a mask has some.
        split_by, val_share, split_seed: see `split.draw_split`.
        split_file: the pairs of an earlier run; pictures that came since then count for nothing.

    Raises:
        FileNotFoundError: no layout fits, or a list names files that are not there.
        ValueError: layout, names, masks or classes cannot be used; says what to do.
    """
    if coding not in (None, "ids", "colours"):
        raise ValueError(f"coding is 'ids' or 'colours', got {coding!r}")
    found = find_layout(Path(data_root), pictures, masks)
    if split_file:
        split = Split(read_splits(split_file, found.root, []), f"that of the resumed run, {split_file}", listed=True)
    else:
        split = choose_split(found, val_share=val_share, seed=split_seed, split_by=split_by)
    sizes, values, faults, kinds = _read(split)
    splits = {name: [pair for pair in pairs if pair.picture not in faults] for name, pairs in split.pairs.items()}
    if empty := [name for name, pairs in splits.items() if not pairs]:
        raise ValueError(f"no pair for {empty[0]} is left in {data_root}: {_some(faults)}")
    named = find_classes(
        found.root,
        values,
        classes=classes,
        ignore=[ignore] if isinstance(ignore, int | str) else ignore,
        coding=coding,
        cityscapes=found.layout.name == CITYSCAPES and splits["train"][0].mask.stem.endswith("labelIds"),
    )
    counts = values.colours if named.coding == "colours" else values.ids
    lines = [
        f"data: {found.root}, {found.layout.name} ({found.folders}); {len(splits['train'])} pairs to train, "
        f"{len(splits['val'])} to validate (split: {split.source})",
        f"sizes (height x width): {describe_sizes(sizes)}",
        describe_classes(named, counts, values.read, len(sizes) + len(faults)),
    ]
    if values.mixed and named.coding == "ids":
        lines.append(f"warning: {values.mixed} has other colours in its palette than masks before; its ids were taken")
    lines += [f"{kind}: {few(sorted(paths))}" for kind, paths in kinds.items()]
    if notes := _left_out(found, split, faults):
        lines.append(f"left out: {'; '.join(notes)}")
    return Folder(found.root, splits, named, sizes, lines)


def _left_out(found: Found, split: Split, faults: Mapping[Path, str]) -> list[str]:
    """Returns a note on each kind of files that are not used."""
    notes = list(found.notes)
    if left := sum(map(len, found.pairs.values())) - sum(map(len, split.pairs.values())):
        notes.append(f"{left} pairs in no list")
    if faults:
        notes.append(f"{len(faults)} pairs that cannot be read: {_some(faults)}")
    return notes


def _some(faults: Mapping[Path, str], most: int = 3) -> str:
    return "; ".join([*faults.values()][:most])


def _read(split: Split) -> tuple[np.ndarray, Values, dict[Path, str], dict[str, list[Path]]]:
    """Reads pairs, `READ_MOST` of them in whole.

    Returns:
        Sizes, values, a sentence on each picture that cannot be read, and the pictures of each of `KINDS`.

    Raises:
        ValueError: a pair that a list names cannot be read.
    """
    pairs = list({pair.picture: pair for listed in split.pairs.values() for pair in listed}.values())
    values, sizes, faults, kinds = Values(), [], {}, defaultdict(list)
    with Progress("data", lambda line: print_log(line, "current")) as progress:
        for done, index in enumerate(sample_evenly(len(pairs))):
            pair, whole = pairs[index], done < READ_MOST
            try:
                size, found = read_size(pair.picture, whole)
                if whole:
                    values.add(pair.mask)
                sizes.append(size)
                for kind in found:
                    kinds[KINDS[kind]].append(pair.picture)
            except ValueError as error:
                faults[pair.picture] = str(error)
            progress(done + 1, len(pairs))
    if faults and split.listed:
        raise ValueError(f"{len(faults)} files that {split.source} names cannot be used: {_some(faults)}")
    return np.array(sizes, dtype=np.int64).reshape(-1, 2), values, faults, kinds


def read_size(path: Path, whole: bool = False) -> tuple[tuple[int, int], list[str]]:
    """Returns height and width of a picture in px, turned by its EXIF orientation, and which of `KINDS` it is.

    A TIFF that Pillow cannot read, as one of five bands, is read by rasterio.

    Args:
        path: of the picture.
        whole: read it to the end, so that a damaged one is found.

    Raises:
        ValueError: it is damaged, or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged files, which are an error
            with open_picture(path) as picture:
                if whole:
                    picture.load()
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
                width, height = picture.size
                found = dict(pages=getattr(picture, "n_frames", 1) > 1, deep=picture.mode.startswith(("I", "F")))
    except ValueError as error:
        if isinstance(error.__cause__, UnidentifiedImageError) and path.suffix.lower() in (".tif", ".tiff"):
            return _raster_size(path, whole), ["raster"]
        raise
    return (width, height) if turned else (height, width), [kind for kind in found if found[kind]]


def _raster_size(path: Path, whole: bool) -> tuple[int, int]:
    """Returns height and width of a TIFF in px; raises as `read_size` does."""
    try:
        with open_raster(path) as dataset:
            if whole:
                read_bands(dataset, dataset.indexes)
            return dataset.height, dataset.width
    except ImportError as error:
        raise ValueError(f"{path} cannot be read by Pillow: {error}") from None


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
