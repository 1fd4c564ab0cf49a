"""Pairs pictures with masks by their names, whatever the endings of the files are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vil_dense.mm.datasets.pictures import SUFFIXES

MASK_TAILS = ("", "_mask", "_masks", "_label", "_labels", "_labelTrainIds", "_gt", "_seg", "_segmentation", "_L")
"""What the name of a mask may have after that of its picture; the first that pairs most files is taken."""
SHOWN = 3
"""Names listed in a message."""


class Pair(NamedTuple):
    """Names a picture and its mask: the path below the folder of pictures without its ending, and the two files."""

    name: str
    picture: Path
    mask: Path


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yields the files below `folder` with the ending of a picture, in upper or lower case, except hidden ones."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not is_hidden(path, folder) and path.is_file():
            yield path


def is_hidden(path: Path, folder: Path) -> bool:
    """Returns whether the name of a file below `folder`, or of a folder in between, begins with a dot."""
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def by_name(folder: Path, tail: str = "") -> dict[str, Path]:
    """Returns the pictures below `folder` whose names end in `tail`, by path without tail and ending.

    Raises:
        ValueError: two files differ in their endings only.
    """
    found: dict[str, Path] = {}
    for path in pictures_below(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not name.endswith(tail):
            continue
        name = name.removesuffix(tail)
        if name in found:
            raise ValueError(f"{found[name]} and {path} have one name: remove one, since masks are found by name")
        found[name] = path
    return found


def pair_files(
    pictures: Path, masks: Path, picture_tail: str = "", mask_tails: Sequence[str] = MASK_TAILS
) -> tuple[list[Pair], list[str]]:
    """Pairs the files of two folders and returns the pairs in the order of their names, and notes on what is left.

    Raises:
        ValueError: no picture has a mask, or two files differ in their endings only.
    """
    named = by_name(pictures, picture_tail)
    candidates = [by_name(masks, tail) for tail in mask_tails]
    labels = max(candidates, key=lambda found: len(found.keys() & named.keys()))
    pairs = [Pair(name, path, labels[name]) for name, path in named.items() if name in labels]
    if not pairs:
        raise ValueError(
            f"no picture in {pictures} has a mask of its name in {masks}: "
            f"{few(named) or 'no pictures'} there and {few(candidates[0]) or 'no masks'} here"
        )
    used = {path for candidate in candidates for name, path in candidate.items() if name in named}
    notes = [
        _note("pictures without a mask", [path for name, path in named.items() if name not in labels], pictures),
        _note("masks without a picture", [path for path in pictures_below(masks) if path not in used], masks),
    ]
    for folder in dict.fromkeys((pictures, masks)):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        hidden = [path for path in files if is_hidden(path, folder)]
        others = [path for path in files if path not in hidden and path.suffix.lower() not in SUFFIXES]
        notes += [_note("hidden files", hidden, folder), _note("files of other formats", others, folder)]
    return pairs, [note for note in notes if note]


def by_path(pairs: Sequence[Pair], root: Path) -> Mapping[str, Pair]:
    """Returns pairs by all names that a list may have for them: with or without ending, below folder or data root."""
    known: dict[str, Pair] = {}
    for pair in pairs:
        below = pair.picture.relative_to(root)
        for name in (pair.name, pair.name + pair.picture.suffix, below.as_posix(), below.with_suffix("").as_posix()):
            known.setdefault(name, pair)
    return known


def few(names: object) -> str:
    """Lists the first names of a collection and counts the others."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _note(what: str, files: Sequence[Path], folder: Path) -> str:
    names = few(path.relative_to(folder) for path in files)
    return f"{len(files)} {what} in {folder}: {names}" if files else ""
