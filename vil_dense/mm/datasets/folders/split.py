"""Divides pairs of pictures and masks into training and validation: by files, or by a repeatable draw."""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vil_dense.files import read_json
from vil_dense.mm.datasets.folders.layouts import Found
from vil_dense.mm.datasets.folders.pairs import Pair, by_path, read_text
from vil_dense.mm.datasets.pictures import check_two_files

SPLITS = "splits.json"
"""File in the data root that gives the split: `{"train": [name, ...], "val": [name, ...]}`."""


class Split(NamedTuple):
    """Holds a split into `train` and `val`.

    Args:
        pairs: of both.
        source: as the log says it.
        listed: whether files name the pairs, which are then followed to the letter.
    """

    pairs: dict[str, list[Pair]]
    source: str
    listed: bool


def choose_split(found: Found, *, val_share: float = 0.2, seed: int = 0, split_by: str | None = None) -> Split:
    """Returns the pairs of `train` and `val`.

    `splits.json` in the data root comes first, then lists, then the folders of a layout; else it is drawn.

    Raises:
        ValueError, FileNotFoundError: a file names pictures that are not there, or no split can be drawn.
    """
    file = found.root / SPLITS
    everything = [pair for pairs in found.pairs.values() for pair in pairs]
    if file.is_file():
        return Split(read_splits(file, found.root, everything), SPLITS, listed=True)
    if "val" in found.lists:
        named = {split: _lines(path) for split, path in found.lists.items()}
        splits = {split: pick(names, everything, found.root, found.lists[split]) for split, names in named.items()}
        files = ", ".join(path.relative_to(found.root).as_posix() for path in found.lists.values())
        return Split(splits, files, listed=True)
    if "val" in found.pairs:
        return Split(dict(found.pairs), "folders", listed=False)
    if found.lists:  # of training alone
        everything = pick(_lines(found.lists["train"]), everything, found.root, found.lists["train"])
    named = draw_split([pair.name for pair in everything], val_share=val_share, seed=seed, split_by=split_by)
    of_name = {pair.name: pair for pair in everything}
    groups = f", groups of names by {split_by!r}" if split_by else ""
    how = f"drawn, {100 * val_share:g} % to validate, seed {seed}{groups}"
    pairs = {split: [of_name[name] for name in names] for split, names in named.items()}
    return Split(pairs, how, listed=bool(found.lists))


def draw_split(
    names: Sequence[str], *, val_share: float = 0.2, seed: int = 0, split_by: str | None = None
) -> dict[str, list[str]]:
    """Draws which names are for training and which for validation; the same names and seed give the same split.

    Args:
        names: without repetitions.
        val_share: the fraction to validate, between 0 and 1; reached or exceeded by less than a group.
        seed: of the draw.
        split_by: a regular expression that matches each name from its beginning; names whose first group (or whole
            match) is the same, as the pictures of a patient or a film, stay together.

    Raises:
        ValueError: fewer than two groups, a name that does not match, or a share that cannot be.
    """
    if not 0 < val_share < 1:
        raise ValueError(f"val_share is a fraction between 0 and 1, got {val_share}")
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[group_of(name, split_by)].append(name)
    if len(groups) < 2:
        what = f"groups by split_by={split_by!r}" if split_by else "pairs of picture and mask"
        raise ValueError(f"a split into training and validation needs two {what} or more, got {len(groups)}")
    val = {*_draw(groups, val_share, seed, most=len(groups) - 1)}
    return dict(train=[name for name in names if name not in val], val=[name for name in names if name in val])


def draw_nested(groups: Mapping[str, str], shares: Sequence[float], seed: int) -> dict[float, list[str]]:
    """Draws a part of the cases for each share, a smaller one within a larger one; the same seed gives the same parts.

    Args:
        groups: group of each case, as a patient or a film, by the name of the case; its own name if it has none. Whole
            groups are drawn until the share is reached, so that there is always a case.
        shares: in %, above 0, at most 100.
        seed: of the draw.

    Raises:
        ValueError: a share cannot be, or there are no cases.
    """
    if wrong := [share for share in shares if not 0 < share <= 100]:
        raise ValueError(f"a share is above 0 and at most 100 %, got {wrong[0]:g}")
    if not groups:
        raise ValueError("there are no cases to draw from")
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group].append(name)
    return {share: sorted(_draw(members, share / 100, seed, most=len(members))) for share in shares}


def _draw(groups: Mapping[str, Sequence[str]], share: float, seed: int, most: int) -> list[str]:
    """Returns the names of whole groups, of `most` at the most, until they are the fraction `share` of all names.

    The order of the groups depends on their names and the seed alone.
    """
    target = math.ceil(share * sum(map(len, groups.values())) - 1e-9)  # of 0.1 * 30, which is a little more than 3
    taken: list[str] = []
    for group in sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())[:most]:
        if len(taken) >= target:
            break
        taken += groups[group]
    return taken


def group_of(name: str, split_by: str | None) -> str:
    """Returns the first group, or the whole match, of a regular expression in a name; the name without one.

    Raises:
        ValueError: it does not match the name, or is none.
    """
    if split_by is None:
        return name
    try:
        found = re.match(split_by, name)
    except re.error as error:
        raise ValueError(f"split_by={split_by!r} is no regular expression: {error}") from None
    if found is None:
        raise ValueError(f"split_by={split_by!r} does not match the name {name}")
    return (found.group(1) if found.re.groups else found.group(0)) or ""


def read_splits(file: Path, root: Path, known: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Reads a split from a JSON, `{"train": [...], "val": [...]}`, and follows it to the letter.

    An entry is the name of a picture, or a list of two paths below `root`: picture and mask.

    Raises:
        ValueError: the file has another form, or names a picture as its own mask.
        FileNotFoundError: it names a file that is not there.
    """
    content = read_json(file)
    if not isinstance(content, dict) or any(not isinstance(content.get(split), list) for split in ("train", "val")):
        raise ValueError(f'{file}: expected {{"train": [...], "val": [...]}} with names of pictures')
    return {split: pick(content[split], known, root, file) for split in ("train", "val")}


def pick(entries: Iterable[object], known: Sequence[Pair], root: Path, source: Path) -> list[Pair]:
    """Returns the pairs that the entries of a list name; raises FileNotFoundError if there is none of that name."""
    of_name, picked = by_path(known, root), []
    for entry in entries:
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(path, str) for path in entry):
            picture, mask = (root / path for path in entry)
            pair: Pair | None = Pair(Path(entry[0]).with_suffix("").as_posix(), picture, mask)
            missing = next((path for path in (picture, mask) if not path.is_file()), None)
            if not missing:
                check_two_files(picture, mask)
        else:
            name = str(entry)
            first = name.partition(" ")[0]  # lists may name the mask beside the picture
            pair = of_name.get(name) or of_name.get(first)
            missing = None if pair else root / name
        if missing or pair is None:
            raise FileNotFoundError(f"{source} names {entry}, and there is no picture with a mask at {missing}")
        picked.append(pair)
    if not picked:
        raise ValueError(f"{source} names no pictures for training or for validation")
    return picked


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
