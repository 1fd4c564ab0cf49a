"""Finds the cases of a file, a folder or a data list for prediction and evaluation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vil_dense.files import describe_skipped, read_json
from vil_dense.medical.datalists.datalist import Case, check_entry, distinct, read_datalist
from vil_dense.medical.datalists.folds import find_splits
from vil_dense.medical.io.nifti import SUFFIXES, stem

SECTIONS = ("testing", "test", "validation", "training")
"""Names of the lists in a JSON; the first one with entries is used."""
CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")


def find_cases(
    source: Path,
    channels: int = 1,
    section: str | None = None,
    fold: int | None = None,
    patient: str | None = None,
) -> list[Case]:
    """Finds the cases of `source`, in order of their names, and reads none of their files.

    Args:
        source: a NIfTI file, a folder of them, or a JSON list (Decathlon's, MONAI's) with paths relative to it. In a
            folder `NAME_0000.nii.gz`, `NAME_0001.nii.gz`, ... are the channels of one case where there are as many as
            `channels`. With `section` or `fold` also the folder of a data set, or nnU-Net's `dataset.json`, see
            `datalist.read_datalist`; their only list is `training`.
        section: list of the JSON.
        fold: only the cases that this fold validates on, as in training.
        patient: see `folds.find_splits`.

    Raises:
        FileNotFoundError: `source` does not exist or has no cases.
        ValueError: two cases have one name, or the JSON has another form.
    """
    if source.suffix == ".json":
        cases = _listed(source, section, fold, patient)
    elif section is not None or fold is not None:
        cases = _of_data_set(source, section, fold, patient)
    elif source.is_dir():
        files = sorted(path for path in source.iterdir() if path.name.endswith(SUFFIXES) and path.name[0] != ".")
        cases = _grouped(files, channels)
        if not cases:
            raise FileNotFoundError(f"no volumes in {source} (searched for {' '.join(SUFFIXES)})")
    elif source.is_file():
        cases = [Case(stem(source), (source,), None)]
    else:
        raise FileNotFoundError(f"no volume, folder or data list at {source}")
    owner: dict[str, Case] = {}
    for case in cases:
        if owner.setdefault(case.name, case) is not case:
            first, second = owner[case.name].images[0], case.images[0]
            raise ValueError(f"{first} and {second} would both be the case {case.name}")
    return sorted(cases, key=lambda case: case.name)


def describe_inputs(source: Path, cases: Sequence[Case], channels: int) -> list[str]:
    """Returns warnings on a folder: files that are not read, and files that look like channels of one case."""
    if not source.is_dir():
        return []
    skipped = describe_skipped(source, (image for case in cases for image in case.images))
    names = [match[1] for case in cases if (match := CHANNEL_NUMBER.fullmatch(case.name))]
    split = sorted(name for name in set(names) if names.count(name) > 1)
    lines = [skipped] if skipped else []
    if split:
        lines.append(
            f"{source} has several numbered files of {len(split)} names ({split[0]}_0000, ...): each is a case of its "
            f"own, as the network has {channels} channel{'s' * (channels > 1)}"
        )
    return lines


def _of_data_set(root: Path, section: str | None, fold: int | None, patient: str | None) -> list[Case]:
    """Returns the cases of the folder of a data set, or those that a fold validates on."""
    if section not in (None, "training"):
        raise ValueError(f"{root} has no cases in {section}; its lists: training")
    try:
        data = read_datalist(root, patient=patient)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"--section and --fold choose from a JSON list or the folder of a data set: {error}") from None
    return list(data.cases) if fold is None else data.split(fold)[1]


def _grouped(files: list[Path], channels: int) -> list[Case]:
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        match = CHANNEL_NUMBER.fullmatch(stem(path))
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = path
    cases: list[Case] = []
    taken: set[Path] = set()
    for name, parts in groups.items():
        # a number of four digits can also be that of a case
        if sorted(parts) == list(range(channels)):
            cases.append(Case(name, tuple(parts[number] for number in range(channels)), None))
            taken.update(parts.values())
    return cases + [Case(stem(path), (path,), None) for path in files if path not in taken]


def _listed(path: Path, section: str | None, fold: int | None, patient: str | None) -> list[Case]:
    if not path.is_file():
        raise FileNotFoundError(f"no data list at {path}")
    content = read_json(path)
    lists = (
        {key: value for key, value in content.items() if isinstance(value, list)} if isinstance(content, dict) else {}
    )
    if isinstance(content, dict) and "training" not in lists and "channel_names" in content:
        return _of_data_set(path.parent, section, fold, patient)
    chosen = section or next((name for name in SECTIONS if lists.get(name)), None)
    if not lists.get(chosen or ""):
        known = ", ".join(lists) or "none"
        raise ValueError(f"{path} has no cases in {section or ', '.join(SECTIONS)}; its lists: {known}")
    cases = distinct([_entry(path, entry) for entry in lists[chosen]], path.parent, path)
    if fold is not None:
        folds = {case.name: case.fold for case in cases}
        if chosen == "training" and not lists.get("validation"):
            split = find_splits(folds, path.parent / "splits_final.json", patient).get(fold)
            held_out = split.val if split else frozenset()
        else:
            held_out = frozenset(name for name, own in folds.items() if own == fold)
        cases = [case for case in cases if case.name in held_out]
    if not cases:
        raise ValueError(f"{path} has no cases of fold {fold} in {chosen}")
    return cases


def _entry(path: Path, entry: Any) -> Case:
    entry = dict(image=entry) if isinstance(entry, str) else entry
    images = check_entry(path, entry)
    name = stem(Path(images[0]))
    numbered = CHANNEL_NUMBER.fullmatch(name)
    name = numbered[1] if numbered and len(images) > 1 else name
    label = path.parent / entry["label"] if entry.get("label") else None
    return Case(name, tuple(path.parent / image for image in images), label, entry.get("fold"))
