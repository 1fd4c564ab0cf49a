"""Tests the first stage of a cascade: whose network and masks a second stage gets, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from volume_plans import small_plan

from vil_dense.files import sha256
from vil_dense.medical.cascade import read_first_stage, with_masks
from vil_dense.medical.datalists.datalist import Case

PLAN = small_plan("whole", "core")
CASES = {"p0_a": 2, "p0_b": 2, "p1_a": 0, "p2_a": 1}
"""Fold of each case in the first stage; the folds are not in the order of their numbers."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Writes what a cross-validation of `CASES` leaves for a cascade."""
    folder = tmp_path / "first"
    plan = small_plan("whole", "core", labels=dict(background=0, whole=[1, 2], core=2), spacing_mm=[3.0, 3.0, 3.0])
    plan |= dict(class_order=["background", "whole", "core"], regions_class_order=[1, 2])
    checkpoints = []
    for fold in dict.fromkeys(CASES.values()):
        file = folder / f"fold_{fold}/iter_2.pth"
        file.parent.mkdir(parents=True)
        file.write_text(f"weights {fold}")
        checkpoints.append(dict(file=f"fold_{fold}/iter_2.pth", sha256=sha256(file)))
    rows = [dict(name=name, fold=fold, patient=name, label="l.nii.gz") for name, fold in CASES.items()]
    for name in CASES:
        for part in ("masks", "images"):
            write_nifti(folder / f"{part}/{name}.nii.gz", np.zeros((4, 5, 6), np.uint8))
    content = dict(model=dict(plan=plan, network=dict(type="ViLUNet3D")), checkpoints=checkpoints, cases=rows)
    (folder / "study.json").write_text(json.dumps(content))
    return folder


def edit(study: Path, change: dict) -> None:
    content = json.loads((study / "study.json").read_text())
    content["model"] = content["model"] | change
    (study / "study.json").write_text(json.dumps(content))


def cases(study: Path, *names: str) -> list[Case]:
    return [Case(name, (study / f"images/{name}.nii.gz",), Path("l.nii.gz")) for name in names]


@pytest.mark.parametrize(
    ("held_out", "folds"),
    [(["p0_a", "p0_b"], [2]), (["p0_b"], [2]), (["p1_a"], [0]), (["p2_a"], [1]), ([], [2, 0, 1])],
)
def test_the_first_network_was_not_trained_on_what_is_held_out(study: Path, held_out: list, folds: list) -> None:
    first = read_first_stage(study, PLAN, held_out)
    assert first.checkpoints == [study / f"fold_{fold}/iter_2.pth" for fold in folds]
    assert first.groups == [[1, 2], [2]] and first.model["plan"]["spacing_mm"] == [3.0, 3.0, 3.0]


def test_a_case_gets_its_out_of_fold_mask(study: Path) -> None:
    found = with_masks(cases(study, "p2_a", "p0_a"), study, patient=r"p\d")
    assert [case.first_stage for case in found] == [study / "masks/p2_a.nii.gz", study / "masks/p0_a.nii.gz"]
    assert Case.from_dict(found[0].as_dict()) == found[0]


def test_a_network_that_saw_the_case_is_refused(study: Path) -> None:
    with raises_one_line(ValueError, study, "p1_a", "fold"):
        read_first_stage(study, PLAN, ["p0_a", "p0_b", "p1_a"])
    with raises_one_line(ValueError, study, "fold", "new"):
        read_first_stage(study, PLAN, ["new"])
    with raises_one_line(ValueError, study, "1 of 2", "new"):
        with_masks(cases(study, "p0_a", "new"), study)
    with_masks(cases(study, "p2_a"), study, patient=r"p\d")
    with raises_one_line(ValueError, study, "p0_a", "p1_a", "2 and 0", "patient="):
        with_masks(cases(study, "p2_a"), study, patient=r"_a|_b")


def test_another_first_stage_is_refused(study: Path) -> None:
    with raises_one_line(FileNotFoundError, study.parent / "none", "study.json"):
        read_first_stage(study.parent / "none", PLAN, [])
    with raises_one_line(ValueError, study, "CT", "MR"):
        read_first_stage(study, dict(PLAN, channels=["CT"]), [])
    (study / "fold_0/iter_2.pth").write_text("others")
    with raises_one_line(ValueError, study / "fold_0/iter_2.pth", "SHA-256"):
        read_first_stage(study, PLAN, [])
    assert read_first_stage(study, PLAN, ["p2_a"]), "its checkpoint is as it was"
    (study / "fold_0/iter_2.pth").unlink()
    with raises_one_line(FileNotFoundError, study / "fold_0/iter_2.pth"):
        read_first_stage(study, PLAN, [])
    write_nifti(study / "masks/p2_a.nii.gz", np.zeros((4, 5, 6), np.uint8), affine("LPS"))
    with raises_one_line(ValueError, "case p2_a", study / "masks/p2_a.nii.gz"):
        with_masks(cases(study, "p0_a", "p2_a"), study)
    (study / "masks/p2_a.nii.gz").unlink()
    with raises_one_line(FileNotFoundError, study / "masks/p2_a.nii.gz", "--pool"):
        with_masks(cases(study, "p2_a"), study)
    edit(study, dict(first_stage=dict(networks=1)))
    with raises_one_line(ValueError, study, "second stage"):
        read_first_stage(study, PLAN, ["p2_a"])
