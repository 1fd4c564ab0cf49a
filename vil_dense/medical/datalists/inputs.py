"""Finds the cases of a file, a folder or a data list for prediction and evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vil_dense.files import describe_skipped, read_json
from vil_dense.medical.datalists.datalist import (
    CHANNEL_NUMBER,
    Case,
    DataList,
    distinct,
    listed_case,
    read_cases,
    read_datalist,
)
from vil_dense.medical.datalists.folds import find_splits
from vil_dense.medical.io.dicom.series import choose_series, is_series
from vil_dense.medical.io.volumes import SUFFIXES, list_volumes, read_grid, source_files, stem

SECTIONS = ("testing", "test", "validation", "training")
"""Names of the lists in a JSON; the first one with entries is used."""


def read_unlabelled(root: str | Path, datalist: str | Path | None = None, channels: int = 1) -> DataList:
    """Returns all cases of a folder without their labels.

    Args:
        root: a data set with a `dataset.json`, see `datalist.read_datalist`; a folder with `imagesTr` or `images`; or a
            folder of volumes, see `find_cases`.
        datalist: JSON file in place of the list in `dataset.json`.
        channels: of each case, in files NAME_0000, NAME_0001, ... if there are several.

    Raises:
        FileNotFoundError, ValueError: as the two functions.
    """
    root = Path(root)
    if datalist or (root / "dataset.json").is_file():
        listed = read_cases(root, datalist, labelled=False)
        cases = tuple(replace(case, label=None) for case in listed.cases)
        return replace(listed, cases=cases, label_keys={})
    folder = next((root / name for name in ("imagesTr", "images") if (root / name).is_dir()), root)
    return DataList(tuple(find_cases(folder, channels)), {})


def find_cases(
    source: Path,
    channels: int = 1,
    section: str | None = None,
    fold: int | None = None,
    patient: str | None = None,
    series: str | None = None,
) -> list[Case]:
    """Finds the cases of `source`, in order of their names, and reads none of their files.

    Args:
        source: a volume, a folder of volumes, or a JSON list (Decathlon's, MONAI's) with paths relative to it. In a
            folder `NAME_0000.nii.gz`, `NAME_0001.nii.gz`, ... are the channels of one case where there are as many as
            `channels`, and so is a single `NAME_0000.nii.gz` of one. A folder of DICOM files is a volume. With
            `section` or `fold` also the folder of a data set, or nnU-Net's `dataset.json`, see
            `datalist.read_datalist`; their only list is `training`.
        section: list of the JSON.
        fold: only the cases that this fold validates on, as in training.
        patient: see `folds.find_splits`.
        series: UID of the series in a folder of DICOM files; it can be left out where there is one.

    Raises:
        FileNotFoundError: `source` does not exist or has no cases.
        ValueError: a folder of DICOM files has other series, or several and none is chosen; two cases have one
            name, or the JSON has another form.
    """
    if source.suffix == ".json":
        cases = _listed(source, section, fold, patient)
    elif section is not None or fold is not None:
        cases = _of_data_set(source, section, fold, patient)
    elif source.is_dir():
        cases = _grouped(list_volumes(source), channels)
        if is_series(source) and (series or not cases):
            cases = [Case(source.resolve().name, (choose_series(source, series),), None)]
        if not cases:
            raise FileNotFoundError(f"no volumes in {source} (searched for {' '.join(SUFFIXES)} and DICOM)")
    elif source.is_file() and is_series(source):
        cases = [Case(source.resolve().parent.name, (source,), None)]
    elif source.is_file():
        cases = _grouped([source], channels)
    else:
        raise FileNotFoundError(f"no volume, folder or data list at {source}")
    if series and not is_series(source):
        raise ValueError(f"--series chooses from a folder of DICOM files, and {source} is not one")
    owner: dict[str, Case] = {}
    for case in cases:
        if owner.setdefault(case.name, case) is not case:
            first, second = owner[case.name].images[0], case.images[0]
            raise ValueError(f"{first} and {second} would both be the case {case.name}")
    return sorted(cases, key=lambda case: case.name)


def describe_inputs(source: Path, cases: Sequence[Case], channels: int) -> list[str]:
    """Returns warnings on the cases of all files of a folder: files that are not read, and files that look like
    channels of one case.

    Raises:
        ValueError: two or more names have the same numbers from 0000 on, as nnU-Net numbers channels, and they are not
            those of the network.
    """
    if not source.is_dir():
        return []
    skipped = describe_skipped(
        source, (file for case in cases for image in case.images for file in source_files(image))
    )
    numbers: dict[str, list[int]] = {}
    for case in cases:
        if match := CHANNEL_NUMBER.fullmatch(case.name):
            numbers.setdefault(match[1], []).append(int(match[2]))
    split = {name: sorted(found) for name, found in numbers.items() if len(found) > 1}
    lines = [skipped] if skipped else []
    if split:
        name, first = next(iter(split.items()))
        network = f"the network has {channels} channel{'s' * (channels > 1)}"
        alike = [other for other in split.values() if other == first == list(range(len(first)))]
        if len(alike) == len(numbers) > 1:
            raise ValueError(
                f"{source} has {len(first)} files for each of {len(split)} names ({name}_{first[0]:04d} to "
                f"{name}_{first[-1]:04d}), which are channels in nnU-Net's layout, and {network}: give it a folder "
                "with the files of its channels alone; if each file is a case, name them in a data list (JSON)"
            )
        lines.append(
            f"{source} has several numbered files of {len(split)} names ({name}_{first[0]:04d}, ...): each is a case "
            f"of its own, as {network}"
        )
    return lines


def by_frame(cases: Sequence[Case], frame: str) -> list[Case]:
    """Returns the cases with the frame of their fourth axis that is read: a number from 0, or `all`, each as a case.

    A file that cannot be read stays one case, with frame 0, whose prediction names its fault.

    Raises:
        ValueError: `frame` is neither.
    """
    if frame != "all" and not frame.isdecimal():
        raise ValueError(f"--frame is a number from 0 on, or all; got {frame!r}")
    found = []
    for case in cases:
        try:
            count = read_grid(case.images[0]).channels
        except (OSError, ValueError):
            count = 1
        chosen = range(count) if frame == "all" else [int(frame)]
        found += [replace(case, name=f"{case.name}_t{number:03d}", frame=number) for number in chosen]
    return found


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
    entries = [dict(image=entry) if isinstance(entry, str) else entry for entry in lists[chosen]]
    cases = distinct([listed_case(path.parent, path, entry) for entry in entries], path.parent, path)
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
