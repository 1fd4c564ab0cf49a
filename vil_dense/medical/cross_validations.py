"""Reads finished cross-validations, and writes and reads the choice that `selection` makes from them.

A cross-validation leaves `study.json` in its folder: the options of its networks, their checkpoints, and fold, patient
and label of each case. A choice is a JSON of its own:

  networks       for each configuration `model` (options of `VolumeSegmentor`) and `checkpoints` (file, relative to the
                 JSON, and its SHA-256)
  postprocess    steps of each structure, see `postprocess`
  report         how it was chosen

Both are data: what they name is built from known classes, and no config is run.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vil_dense.files import read_json, save_json, sha256
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.label_map import LabelMap, written_labels
from vil_dense.medical.postprocess import Steps, check_steps

MODEL = ("plan", "network", "overlap", "window_batch", "first_stage")
"""Options of `VolumeSegmentor` that a prediction depends on; the others belong to its training."""


class HeldOut(NamedTuple):
    """Stores a case of a cross-validation: its fold, its patient, its label, and what was predicted for it."""

    fold: int
    patient: str
    label: Path
    mask: Path
    probabilities: Path


class PooledFolds(NamedTuple):
    """Stores a finished cross-validation, whose folds are pooled; `cases` by name."""

    folder: Path
    model: Mapping[str, Any]
    checkpoints: Sequence[Mapping[str, str]]
    labels: LabelMap
    cases: Mapping[str, HeldOut]


class Chosen(NamedTuple):
    """Stores a choice: for each configuration its options and its checkpoints; the steps after the prediction."""

    models: Sequence[Mapping[str, Any]]
    checkpoints: Sequence[Sequence[Path]]
    steps: Steps


def read_cross_validation(folder: Path) -> PooledFolds:
    """Reads a finished cross-validation.

    Raises:
        FileNotFoundError: the folder has none, or one that was not pooled.
        ValueError: its `study.json` has another form.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is no finished cross-validation, as it has no study.json: run cross_validate.py with --pool"
        )
    content = read_json(path)
    try:
        cases = {
            case["name"]: HeldOut(
                case["fold"],
                case["patient"],
                Path(case["label"]),
                folder / f"masks/{case['name']}.nii.gz",
                folder / f"fold_{case['fold']}/held_out/probabilities/{case['name']}.nii.gz",
            )
            for case in content["cases"]
        }
        labels = LabelMap.of(read_plan(content["model"]["plan"]))
        return PooledFolds(folder, content["model"], content["checkpoints"], labels, cases)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a cross-validation ({error!r})") from None


def check_same_cases(runs: Sequence[PooledFolds]) -> None:
    """Checks that cross-validations are of the same classes and the same cases.

    Raises:
        ValueError: they are not.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.labels != first.labels:
            classes = [dict(run.labels.values) for run in (first, other)]
            raise ValueError(f"{first.folder} has the classes {classes[0]} and {other.folder} {classes[1]}")
        if differing := sorted({*first.cases} ^ {*other.cases}):
            raise ValueError(
                f"{first.folder} and {other.folder} are of different cases, {len(differing)} are in one alone "
                f"({differing[0]}): run and pool the same folds of both"
            )


def write_chosen(
    path: Path,
    runs: Sequence[PooledFolds],
    steps: Mapping[str, Mapping[str, Any]],
    report: Mapping[str, Any],
) -> None:
    """Writes a choice; the files of the checkpoints are named relative to the folder of `path`."""
    networks = [
        dict(
            model=run.model,
            checkpoints=[
                dict(file=os.path.relpath(run.folder / item["file"], path.parent), sha256=item["sha256"])
                for item in run.checkpoints
            ],
        )
        for run in runs
    ]
    save_json(path, dict(networks=networks, postprocess=steps, report=report))


def read_chosen(path: Path) -> Chosen:
    """Reads a choice, and checks that the checkpoints are those that were chosen.

    Raises:
        FileNotFoundError: the file, or a checkpoint, does not exist.
        ValueError: the file has another form, or a checkpoint is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no choice at {path}; make one: python tools/volumes/find_best.py CV_DIR --out {path}")
    content = read_json(path)
    try:
        models = [dict(item["model"]) for item in content["networks"]]
        files = [
            [(path.parent / file["file"], file["sha256"]) for file in item["checkpoints"]]
            for item in content["networks"]
        ]
        steps, labels = content["postprocess"], [written_labels(read_plan(model["plan"])) for model in models]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no choice of find_best.py ({error!r})") from None
    if not models or not all(files):
        raise ValueError(f"{path} names no networks")
    if unknown := sorted({key for model in models for key in model} - {*MODEL}):
        raise ValueError(f"{path}: a model has {', '.join(MODEL)}, got {', '.join(unknown)}")
    check_steps(steps, labels[0])
    for file, digest in (pair for group in files for pair in group):
        if not file.is_file():
            raise FileNotFoundError(f"{path} names the checkpoint {file}, and there is none: move them together")
        if sha256(file) != digest:
            raise ValueError(f"{file} is not the checkpoint that {path} names: its SHA-256 differs")
    return Chosen(models, [[file for file, _ in group] for group in files], steps)
