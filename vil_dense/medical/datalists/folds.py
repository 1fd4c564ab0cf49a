"""Decides on which cases each fold trains and on which it validates."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vil_dense.files import read_json

FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Stores the names of the cases to train on and of those to validate on; a case may be in neither."""

    train: frozenset[str]
    val: frozenset[str]


def find_splits(folds: Mapping[str, int | None], file: Path, patient: str | None = None) -> dict[int, Split]:
    """Returns the split of each fold: the data list's own, else that of `file`, else one of five random ones.

    The random ones depend on the names alone.

    Args:
        folds: the fold that the data list gives to each case, by name; None where it gives none.
        file: nnU-Net's `splits_final.json`, which is followed to the letter. It need not exist.
        patient: see `patient_of`; all cases of a patient go to one random fold. Without it each case is a patient.

    Raises:
        ValueError: `file` has another form, names unknown cases, or has a case in both parts of a fold; `patient` is
            not found in a name, or a patient has cases in both parts of a fold that the list or `file` gives.
    """
    if any(fold is not None for fold in folds.values()):
        splits = _leave_out(folds)
    elif file.is_file():
        splits = _read_splits(file, folds)
    else:
        return _leave_out(_made_folds(sorted(folds), patient))
    for number, split in splits.items() if patient else ():
        owners = [{patient_of(name, patient): name for name in names} for names in (split.train, split.val)]
        if both := sorted(owners[0].keys() & owners[1].keys()):
            raise ValueError(
                f"fold {number} trains on {owners[0][both[0]]} and validates on {owners[1][both[0]]}, both of the "
                f"patient {both[0]} by patient={patient!r}: change the given folds, or leave patient out"
            )
    return splits


def _leave_out(folds: Mapping[str, int | None]) -> dict[int, Split]:
    """Validates on each fold and trains on all other cases."""
    return {
        number: Split(
            frozenset(name for name, fold in folds.items() if fold != number),
            frozenset(name for name, fold in folds.items() if fold == number),
        )
        for number in sorted({fold for fold in folds.values() if fold is not None})
    }


def _read_splits(file: Path, known: Collection[str]) -> dict[int, Split]:
    try:
        splits = [Split(frozenset(fold["train"]), frozenset(fold["val"])) for fold in read_json(file)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is no list of folds with the lists 'train' and 'val' ({error!r})") from None
    for number, split in enumerate(splits):
        if both := sorted(split.train & split.val):
            raise ValueError(f"{file}: fold {number} has {_few(both)} in both train and val")
        if unknown := sorted((split.train | split.val) - set(known)):
            raise ValueError(f"{file}: fold {number} lists {_few(unknown)}, and the data have no such case")
    return dict(enumerate(splits))


def _made_folds(names: Sequence[str], pattern: str | None) -> dict[str, int | None]:
    """Spreads the patients over `FOLDS` folds, the same way for the same names."""
    owners = {name: patient_of(name, pattern) for name in names}
    patients = sorted({*owners.values()})
    places = np.random.default_rng(0).permutation(len(patients)).tolist()
    place = dict(zip(patients, places, strict=True))
    return {name: place[owner] % FOLDS for name, owner in owners.items()}


def patient_of(name: str, pattern: str | None) -> str:
    """Returns the part of a case's name that a regular expression finds, its group if it has one; without, the name.

    Raises:
        ValueError: it is not found, or has several groups.
    """
    if pattern is None:
        return name
    found = re.search(pattern, name)
    if found and found.re.groups > 1:
        raise ValueError(f"patient={pattern!r} has {found.re.groups} groups, and one says what the patient is: (?:...)")
    owner = found[found.re.groups] if found else None
    if not owner:
        raise ValueError(f"the name of the case {name} has no patient: patient={pattern!r} does not match it")
    return owner


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)
