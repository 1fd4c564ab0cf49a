"""Draws nested parts of a data set by name: of the same draw, a smaller part is within a larger one."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vil_dense.files import write_whole


def draw_nested(groups: Mapping[str, str], shares: Sequence[float], seed: int) -> dict[float, list[str]]:
    """Draws a part of the cases for each share; the same names and seed give the same parts.

    Whole groups are drawn, in one order for all shares, until the share is reached, so that there is always a case.

    Args:
        groups: group of each case, as a patient or a film, by the name of the case; its own name if it has none.
        shares: in %, above 0, at most 100.
        seed: of the draw.

    Raises:
        ValueError: a share cannot be, or there are no cases.
    """
    if wrong := [share for share in shares if not 0 < share <= 100]:
        raise ValueError(f"a share is above 0 and at most 100 %, got {wrong[0]:g}")
    if not groups:
        raise ValueError("there are no cases to draw from")
    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    found = {}
    for share in shares:
        target = math.ceil(share * len(groups) / 100 - 1e-9)  # of 10 % of 30, which is a little more than 3
        taken: list[str] = []
        for group in order:
            if len(taken) >= target:
                break
            taken += members[group]
        found[share] = sorted(taken)
    return found


def save_names(path: Path, names: Sequence[str]) -> None:
    """Writes names to a text file, one a line, which `CheckedDataset` takes as `filter_cfg=dict(names=FILE)`."""
    write_whole(path, lambda part: part.write_text("".join(f"{name}\n" for name in names), encoding="utf-8"))
