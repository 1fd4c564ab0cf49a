"""Pairs pictures with masks by their names, whatever the endings of the files are."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from vil_dense.mm.datasets.pictures import SUFFIXES

MASK_TAILS = ("", "_mask", "_masks", "_label", "_labels", "_labelTrainIds", "_gt", "_seg", "_segmentation", "_L")
"""Lists what the name of a mask may have after that of its picture; the first that pairs most files is taken."""
SHOWN = 3
"""Names listed in a message."""


class Pair(NamedTuple):
    """Names a picture and its mask: the path below the folder of pictures without its ending, and the two files."""

    name: str
    picture: Path
    mask: Path


@dataclass
class Files:
    """Lists the files below a folder, sorted: pictures, other formats, and hidden ones."""

    folder: Path
    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)

    def by_name(self, tail: str = "") -> dict[str, Path]:
        """Returns the pictures whose names end in `tail`, by path below the folder without tail and ending.

        Raises:
            ValueError: two files differ in their endings only.
        """
        found: dict[str, Path] = {}
        for path in self.pictures:
            if not path.stem.endswith(tail):
                continue
            name = path.relative_to(self.folder).with_suffix("").as_posix().removesuffix(tail)
            if name in found:
                raise ValueError(f"{found[name]} and {path} have one name: remove one, since masks are found by name")
            found[name] = path
        return found


def files_below(folder: Path) -> Files:
    """Lists all files below a folder; those in hidden folders are hidden."""
    found = Files(folder)
    for path in sorted(Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names):
        if any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts):
            found.hidden.append(path)
        else:
            (found.pictures if path.suffix.lower() in SUFFIXES else found.others).append(path)
    return found


def holds_pictures(folder: Path) -> bool:
    """Returns whether there is a picture below a folder."""
    files = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return any(name.lower().endswith(SUFFIXES) and not name.startswith(".") for name in files)


def pair_files(
    pictures: Path, masks: Path, picture_tail: str = "", mask_tails: Sequence[str] = MASK_TAILS
) -> tuple[list[Pair], list[str]]:
    """Pairs the files of two folders and returns the pairs in the order of their names, and notes on what is left.

    If both are one folder, it is divided as `divide_folder` says.

    Raises:
        ValueError: no picture has a mask, or two files differ in their endings only.
    """
    here, there = files_below(pictures), files_below(masks)
    if os.path.realpath(pictures) == os.path.realpath(masks):
        here.pictures, there.pictures = divide_folder(here.pictures, mask_tails)
        there = replace(there, others=[], hidden=[])  # which are in `here`
    named = here.by_name(picture_tail)
    candidates = [there.by_name(tail) for tail in mask_tails]
    labels = max(candidates, key=lambda found: len(found.keys() & named.keys()))
    pairs = [Pair(name, path, labels[name]) for name, path in named.items() if name in labels]
    if not pairs:
        raise ValueError(
            f"no picture in {pictures} has a mask of its name in {masks}: "
            f"{few(named) or 'no pictures'} there and {few(there.by_name()) or 'no masks'} here"
        )
    used = {path for candidate in candidates for name, path in candidate.items() if name in named}
    alone = {path for candidate in candidates for path in candidate.values()} - used
    notes = [
        _note("pictures without a mask", [path for name, path in named.items() if name not in labels], pictures),
        _note("masks without a picture", sorted(alone), masks),
    ]
    for files in (here, there):
        notes.append(_note("hidden files", files.hidden, files.folder))
        notes.append(_note("files of other formats", files.others, files.folder))
    return pairs, [note for note in notes if note]


def divide_folder(files: Sequence[Path], mask_tails: Sequence[str] = MASK_TAILS) -> tuple[list[Path], list[Path]]:
    """Divides the files of one folder into pictures and masks, by their names.

    A mask has the name of another file and a tail, such as `a_mask.png` beside `a.png`. Without tails, files of another
    format are the masks of the JPEGs of their names, such as `a.png` beside `a.jpg`.

    Raises:
        ValueError: no file is the mask of another one.
    """
    stems = {path.with_suffix("") for path in files}
    tails = [tail for tail in mask_tails if tail]
    masks = {
        path
        for path in files
        for tail in tails
        if path.stem.endswith(tail) and path.parent / path.stem.removesuffix(tail) in stems
    }
    if not masks:
        jpegs = {path.with_suffix("") for path in files if _is_jpeg(path)}
        masks = {path for path in files if not _is_jpeg(path) and path.with_suffix("") in jpegs}
    if not masks:
        raise ValueError(
            f"pictures and masks are in one folder, and no name tells which is which, of {few(p.name for p in files)}: "
            f"name masks as NAME{tails[0]}.png, or set masks to a folder of their own"
        )
    return [path for path in files if path not in masks], sorted(masks)


def by_path(pairs: Sequence[Pair], root: Path) -> Mapping[str, Pair]:
    """Returns pairs by all names that a list may have for them: with or without ending, below folder or data root."""
    known: dict[str, Pair] = {}
    for pair in pairs:
        below = pair.picture.relative_to(root)
        for name in (pair.name, pair.name + pair.picture.suffix, below.as_posix(), below.with_suffix("").as_posix()):
            known.setdefault(name, pair)
    return known


def read_text(path: Path) -> str:
    """Reads a list; raises ValueError if it is no text in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from None


def few(names: object) -> str:
    """Lists the first names of a collection and counts the others."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")


def _note(what: str, files: Sequence[Path], folder: Path) -> str:
    names = few(path.relative_to(folder) for path in files)
    return f"{len(files)} {what} in {folder}: {names}" if files else ""
