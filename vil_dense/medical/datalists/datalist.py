"""Reads lists of cases (Decathlon and MONAI JSON, nnU-Net's `dataset.json`, two plain folders) and their folds."""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vil_dense.files import read_json, save_json
from vil_dense.medical.datalists.folds import Split, find_splits
from vil_dense.medical.datalists.unread import unread_files
from vil_dense.medical.io.volumes import SUFFIXES, is_volume, list_volumes, stem

CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")
"""Names of nnU-Net's files, one for each channel."""
_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))


@dataclass(frozen=True)
class Case:
    """Stores the files of a case: images (one for each channel, or one for all; for DICOM a folder, or a file of the
    series), label, the fold of its entry, the only index of a fourth axis that is read, if not all are, and the mask of
    the first stage of a `cascade`."""

    name: str
    images: tuple[Path, ...]
    label: Path | None
    fold: int | None = None
    frame: int | None = None
    first_stage: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns `name`, `image` (a path, or one for each channel) and, if any, `label`, `frame` and `first_stage`."""
        paths = [str(path) for path in self.images]
        item: dict[str, Any] = dict(name=self.name, image=paths[0] if len(paths) == 1 else paths)
        if self.frame is not None:
            item["frame"] = self.frame
        return item | {key: str(path) for key in ("first_stage", "label") if (path := getattr(self, key)) is not None}

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> "Case":
        """Returns the case of a dictionary of `as_dict`; the default name is that of its first file."""
        images = item["image"] if isinstance(item["image"], (list, tuple)) else [item["image"]]
        label = Path(item["label"]) if item.get("label") else None
        first = Path(item["first_stage"]) if item.get("first_stage") else None
        name = item.get("name") or case_name(images[0])
        return cls(name, tuple(map(Path, images)), label, frame=item.get("frame"), first_stage=first)


@dataclass(frozen=True)
class DataList:
    """Stores cases in order of their names, the split of each fold, if the data set has them names of channels and the
    keys of a plan on labels (`labels`, `regions_class_order`, `ignore_label`), and sentences on files not read."""

    cases: tuple[Case, ...]
    splits: Mapping[int, Split]
    channels: tuple[str, ...] | None = None
    label_keys: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def split(self, fold: int) -> tuple[list[Case], list[Case]]:
        """Returns the cases for training and those for validation.

        Raises:
            ValueError: no case is in that fold, or none is left for training.
        """
        if fold not in self.splits:
            raise ValueError(f"the data have no fold {fold!r}; known: {', '.join(map(str, self.splits))}")
        split = self.splits[fold]
        train, val = ([case for case in self.cases if case.name in names] for names in (split.train, split.val))
        if not val or not train:
            raise ValueError(f"fold {fold} leaves {len(train)} cases to train and {len(val)} to validate")
        return train, val


def read_datalist(
    root: str | Path,
    datalist: str | Path | None = None,
    labelled: bool = True,
    patient: str | None = None,
) -> DataList:
    """Reads the cases in a folder, or those that a JSON file lists.

    The first layout that is found is used: `datalist` or `dataset.json` with the key `training` (Decathlon, MONAI);
    `dataset.json` with `channel_names` (nnU-Net: images `<case>_0000<ending>`, ...); `imagesTr` and `labelsTr`, or
    `images` and `labels`, with the same file names. Folds are the `fold` of the entries (a list `validation`
    is fold 0), or those of `splits_final.json`, or five random ones (`folds.find_splits`). The name of a case that
    several folders of a list have begins with its folder.

    Args:
        root: folder of the data; paths in a JSON are relative to it.
        datalist: JSON file, relative to `root` or to the current folder, in place of the list in `dataset.json`.
        labelled: whether every case needs a label.
        patient: see `folds.find_splits`.

    Raises:
        FileNotFoundError: the folder or the file does not exist.
        ValueError: there are no cases, or the JSON has another form; describes the expected one.
    """
    listed = read_cases(root, datalist, labelled)
    folds = {case.name: case.fold for case in listed.cases}
    return replace(listed, splits=find_splits(folds, Path(root) / "splits_final.json", patient))


def read_cases(root: str | Path, datalist: str | Path | None = None, labelled: bool = True) -> DataList:
    """Reads the same cases as `read_datalist`, without folds; the arguments and errors are the same."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder at {root}")
    meta_path = root / "dataset.json"
    meta = _read_json(meta_path) if meta_path.is_file() else {}
    source = _datalist_path(root, datalist) if datalist else meta_path
    listed = _read_json(source) if datalist else meta
    if "training" in listed:
        cases = _listed_cases(root, source, listed, "training", labelled)
        cases += [replace(case, fold=0) for case in _listed_cases(root, source, listed, "validation", labelled)]
    elif datalist:
        raise ValueError(f"{source} has no list 'training' of images and labels")
    elif "channel_names" in meta:
        cases = _nnunet_cases(root, str(meta.get("file_ending", ".nii.gz")), len(meta["channel_names"]), labelled)
    else:
        cases = _folder_cases(root, labelled)
    unread = () if "training" in listed else unread_files(cases)  # a list names the files that are meant
    cases = sorted(distinct(cases, root, source if datalist else meta_path), key=lambda case: case.name)
    try:
        channels, labels = _channels(meta), _labels(meta)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{meta_path} has channels or labels of an unknown form ({error})") from None
    if not cases:
        raise ValueError(f"{source if datalist else root} lists no cases")
    return DataList(tuple(cases), {}, channels, labels, unread)


def write_datalist(path: Path, root: Path, train: Sequence[Case], val: Sequence[Case], fold: int) -> None:
    """Writes a list of cases for `read_datalist`, in which `fold` validates on `val` and trains on `train`.

    Args:
        path: of the JSON.
        root: folder of the data, which paths are relative to.
        train, val: cases with labels; a case has all its channels, and no single frame.
        fold: its number.
    """

    def entry(case: Case, number: int) -> dict[str, Any]:
        files = [os.path.relpath(file, root) for file in (*case.images, case.label) if file]
        images = files[: len(case.images)]
        return dict(name=case.name, image=images[0] if len(images) == 1 else images, label=files[-1], fold=number)

    save_json(path, dict(training=[*(entry(case, fold + 1) for case in train), *(entry(case, fold) for case in val)]))


def distinct(cases: Sequence[Case], root: Path, source: Path) -> list[Case]:
    """Returns the cases with the folders before the names that several files share.

    Raises:
        ValueError: an image is listed twice, or is its own label.
    """
    images, names = (Counter(values) for values in ([c.images for c in cases], [c.name for c in cases]))
    if twice := [case for case in cases if images[case.images] > 1]:
        raise ValueError(f"{source}: the case {twice[0].name} is listed {images[twice[0].images]} times")
    if same := [case for case in cases if case.label in case.images]:
        raise ValueError(f"{source}: the case {same[0].name} has {same[0].label} both as image and as label")
    return [replace(case, name=_long_name(case, root)) if names[case.name] > 1 else case for case in cases]


def _long_name(case: Case, root: Path) -> str:
    """Returns a case's name with the folders of its first image below `root` before it."""
    image = case.images[0]
    folders = image.relative_to(root).parent.parts if image.is_relative_to(root) else image.parent.parts[1:]
    return "_".join([*folders, case.name])


def case_name(path: str | Path) -> str:
    """Returns a file's name without the ending of its format; that of a DICOM folder is whole.

    Raises:
        ValueError: the file has another ending.
    """
    path = Path(path)
    if not (is_volume(path) or path.is_dir()):
        raise ValueError(f"{path} is not a volume: expected an ending of {', '.join(SUFFIXES)}, or a DICOM folder")
    return stem(path)


def _datalist_path(root: Path, datalist: str | Path) -> Path:
    return Path(datalist) if not (root / datalist).is_file() and Path(datalist).is_file() else root / datalist


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no data list at {path}")
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, and a data list is an object")
    return content


def _listed_cases(root: Path, source: Path, listed: Mapping[str, Any], key: str, labelled: bool) -> list[Case]:
    entries = listed.get(key, [])
    if not isinstance(entries, list):
        raise ValueError(f"{source}: {key!r} is a list of cases, got a {type(entries).__name__}")
    return [listed_case(root, source, entry, labelled) for entry in entries]


def listed_case(root: Path, source: Path, entry: Any, labelled: bool = False) -> Case:
    """Returns the case of an entry of the list `source`, with paths relative to `root`; channels have one name.

    Raises:
        ValueError: the entry is no object with `image` (a path or list of paths), `label`, and, if any, `fold`, `name`.
    """
    fields = entry if isinstance(entry, dict) else {}
    names, label, fold, given = (fields.get(key) for key in ("image", "label", "fold", "name"))
    images: list[Any] = names if isinstance(names, list) else [names]
    wrong = (
        not images
        or not all(isinstance(name, str) and name for name in images)
        or not ((isinstance(label, str) and label) or (label is None and not labelled))
        or not (fold is None or (isinstance(fold, int) and not isinstance(fold, bool)))
        or not (given is None or (isinstance(given, str) and given == Path(given).name != ""))
    )
    if wrong:
        needed = "image and label" if labelled else "image, label if any"
        raise ValueError(
            f"{source}: an entry needs {needed}, as paths, fold, if any, as a number, and name, if any, as the name of "
            f"a file; got {entry!r}"
        )
    name = case_name(root / images[0])
    numbered = CHANNEL_NUMBER.fullmatch(name)
    if numbered and (len(images) > 1 or (label and numbered[1] == stem(Path(label)))):
        name = numbered[1]
    return Case(given or name, tuple(root / image for image in images), root / label if label else None, fold)


def _nnunet_cases(root: Path, ending: str, channels: int, labelled: bool) -> list[Case]:
    first = f"_0000{ending}"
    names = sorted(path.name.removesuffix(first) for path in (root / "imagesTr").glob(f"*{first}"))
    if not names:
        raise ValueError(f"{root}/imagesTr holds no *{first}, which dataset.json (nnU-Net) requires")
    return [
        Case(
            name,
            tuple(root / "imagesTr" / f"{name}_{channel:04d}{ending}" for channel in range(channels)),
            root / "labelsTr" / f"{name}{ending}" if labelled else None,
        )
        for name in names
    ]


def _folder_cases(root: Path, labelled: bool) -> list[Case]:
    for images, labels in _FOLDERS:
        files = list_volumes(root / images)
        if files and (not labelled or (root / labels).is_dir()):
            masks = {case_name(path): path for path in list_volumes(root / labels)}
            return [
                Case(name, paths, masks.get(name, root / labels / paths[0].name) if labelled else None)
                for name, paths in _channel_files(files, masks).items()
            ]
    layouts = " or ".join(f"{images}/ and {labels}/" for images, labels in _FOLDERS)
    raise ValueError(f"{root} holds no data list: searched for dataset.json, and for volumes in {layouts}")


def _channel_files(files: Sequence[Path], masks: Collection[str]) -> dict[str, tuple[Path, ...]]:
    """Returns the images of each case by its name.

    Files NAME_0000, NAME_0001, ... are the channels of one case if there is a label NAME and none for NAME_0000.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for path in files:
        name = case_name(path)
        numbered = CHANNEL_NUMBER.fullmatch(name)
        channel = numbered is not None and numbered[1] in masks and name not in masks
        name = numbered[1] if numbered and channel else name
        if name in found and not channel:
            raise ValueError(f"{found[name][0]} and {path} would both be the case {name}")
        found[name] = (*found.get(name, ()), path)
    return found


def _channels(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the channel names of a Decathlon (`modality`) or nnU-Net (`channel_names`) file."""
    named = meta.get("channel_names") or meta.get("modality")
    return tuple(str(named[key]) for key in sorted(named, key=int)) if named else None


def _labels(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a plan on labels; Decathlon writes value: name, nnU-Net name: value, or a list of values."""
    labels = meta.get("labels")
    if not labels:
        return {}
    if all(str(key).isdigit() for key in labels):
        labels = {str(labels[value]): int(value) for value in sorted(labels, key=int)}
    whole = {name: [*map(int, own)] if isinstance(own, list) else int(own) for name, own in labels.items()}
    found: dict[str, Any] = dict(labels=whole)
    if "ignore" in whole:
        found["ignore_label"] = whole.pop("ignore")
    if meta.get("regions_class_order") is not None:
        found["regions_class_order"] = [*map(int, meta["regions_class_order"])]
    return found
