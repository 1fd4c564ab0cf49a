"""Reads the first stage of a cascade: a finished cross-validation whose masks a second stage sees beside the image.

This is the cascade of nnU-Net (Nat. Methods 18:203, 2021), for structures of which a patch at full resolution sees too
little: networks at a coarse spacing segment a volume first, and a network at full resolution sees their mask as further
channels.

No case is seen with the mask of a network that was trained on it. Training uses the out-of-fold masks of the
cross-validation. A training that holds a fold out predicts with the first network that did not see the fold's cases
either, so that its validation scores are of new cases in both stages.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vil_dense.files import sha256
from vil_dense.medical.cross_validations import PooledFolds, read_cross_validation
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.datalists.folds import patient_of
from vil_dense.medical.io.volumes import check_same_grid, read_grid


class FirstStage(NamedTuple):
    """Stores what a second stage needs of its first: options of the networks, checkpoints, and structures of masks."""

    model: Mapping[str, Any]
    checkpoints: Sequence[Path]
    groups: list[list[int]]


def read_first_stage(folder: Path, plan: Plan, held_out: Collection[str]) -> FirstStage:
    """Reads the first stage of a training that holds some cases out.

    Args:
        folder: of a finished cross-validation.
        plan: of the second stage.
        held_out: names of the cases; the checkpoint is that of a network that was trained on none of them. With no case
            the checkpoints are those of all folds.

    Raises:
        FileNotFoundError: the folder has no finished cross-validation, or a checkpoint is missing.
        ValueError: its networks see other channels, are a second stage themselves, or are all trained on a case that is
            held out; or a checkpoint is not the one that was cross-validated.
    """
    pooled = read_cross_validation(folder)
    if "first_stage" in pooled.model:
        raise ValueError(f"the networks of {folder} are the second stage of a cascade, and a cascade has two")
    channels, wanted = list(pooled.model["plan"]["channels"]), list(plan["channels"])
    if channels != wanted:
        raise ValueError(f"both stages of a cascade see the same channels, got {channels} in {folder} and {wanted}")
    files = {
        fold: (folder / item["file"], item["sha256"])
        for fold, item in zip(_held_out(pooled), pooled.checkpoints, strict=True)
    }
    if held_out:
        fold = _fold_without(pooled, held_out)
        files = {fold: files[fold]}
    for file, digest in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"the first stage {folder} has lost its checkpoint {file}")
        if sha256(file) != digest:
            raise ValueError(f"{file} is not the checkpoint that made the masks of {folder}: its SHA-256 differs")
    groups = [list(values) for values in pooled.labels.structures.values()]
    return FirstStage(pooled.model, [file for file, _ in files.values()], groups)


def with_masks(cases: Sequence[Case], folder: Path, patient: str | None = None) -> list[Case]:
    """Returns cases with their out-of-fold masks of a finished cross-validation.

    Args:
        patient: see `folds.find_splits`.

    Raises:
        FileNotFoundError: the folder has no finished cross-validation, or a mask is missing.
        ValueError: a case was not held out, a network that did not see it saw another case of its patient, or a mask is
            not on the grid of the image.
    """
    pooled = read_cross_validation(folder)
    if lacking := [case.name for case in cases if case.name not in pooled.cases]:
        raise ValueError(
            f"{folder} has no out-of-fold mask of {len(lacking)} of {len(cases)} cases ({lacking[0]}), which the first "
            "stage of a cascade needs of each: cross-validate it on the same data, and pool all folds"
        )
    first: dict[str, str] = {}
    for name, held_out in pooled.cases.items():
        other = first.setdefault(patient_of(name, patient), name)
        if pooled.cases[other].fold != held_out.fold:
            raise ValueError(
                f"{other} and {name} are of one patient, and the first stage {folder} has them in the folds "
                f"{pooled.cases[other].fold} and {held_out.fold}, so each mask is of a network that saw the patient: "
                f"cross-validate it with patient={patient!r} as well"
            )
    masks = {case.name: pooled.cases[case.name].mask for case in cases}
    if missing := [mask for mask in masks.values() if not mask.is_file()]:
        raise FileNotFoundError(f"no out-of-fold mask at {missing[0]}: run cross_validate.py with --pool again")
    for case in cases:
        try:
            check_same_grid(read_grid(case.images[0]), read_grid(masks[case.name]))
        except ValueError as error:
            raise ValueError(f"case {case.name}, whose mask is of another image: {error}") from None
    return [replace(case, first_stage=masks[case.name]) for case in cases]


def _held_out(pooled: PooledFolds) -> dict[int, set[str]]:
    """Returns the cases that each fold of a cross-validation holds out, by name, in the order of its checkpoints."""
    found: dict[int, set[str]] = {}
    for name, case in pooled.cases.items():
        found.setdefault(case.fold, set()).add(name)
    return found


def _fold_without(pooled: PooledFolds, held_out: Collection[str]) -> int:
    """Returns the fold of a cross-validation that holds out all of these cases; raises ValueError if there is none."""
    folds = _held_out(pooled)
    if fitting := [fold for fold, names in folds.items() if {*held_out} <= names]:
        return fitting[0]
    most = max(folds, key=lambda fold: len(folds[fold] & {*held_out}))
    trained = sorted({*held_out} - folds[most])
    raise ValueError(
        f"every network of {pooled.folder} may have been trained on a case that is held out here, that without fold "
        f"{most} on {trained[0]}: give both stages of a cascade the same data and folds"
    )
