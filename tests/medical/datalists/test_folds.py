"""Tests which cases each fold trains on: a patient is in one of its parts alone."""

import json
from pathlib import Path

import pytest
from refusals import raises_one_line

from vil_dense.medical.datalists.datalist import read_datalist, write_datalist
from vil_dense.medical.datalists.folds import find_splits, patient_of

NAMES = {f"p{patient}_{visit}": None for patient in range(10) for visit in "ab"}


@pytest.mark.parametrize("pattern", [r"^p\d", r"^(p\d)_.*$"])
def test_a_patient_is_what_the_group_of_a_pattern_finds(pattern: str) -> None:
    for split in find_splits(NAMES, Path("none"), pattern).values():
        assert not {name[:2] for name in split.train} & {name[:2] for name in split.val}


def test_patterns_that_say_no_patient() -> None:
    with raises_one_line(ValueError, "2 groups"):
        patient_of("p1_a", r"(p\d)_(.)")
    with raises_one_line(ValueError, "p1_a has no patient"):
        patient_of("p1_a", r"p\d(x?)")


def test_given_folds_keep_patients_together(tmp_path: Path) -> None:
    folds = {name: int(name.endswith("b")) for name in NAMES}
    assert len(find_splits(folds, tmp_path / "none")) == 2
    with raises_one_line(ValueError, "both of the patient p0"):
        find_splits(folds, tmp_path / "none", r"^p\d")
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([dict(train=["p0_a"], val=["p0_b"])]))
    with raises_one_line(ValueError, "both of the patient p0"):
        find_splits(NAMES, file, r"^p\d")


def test_written_lists_keep_the_names_of_cases(tmp_path: Path) -> None:
    """Tests an nnU-Net folder with one channel, whose files have a suffix that names do not have."""
    for folder, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            (tmp_path / folder / f"{name}{suffix}.nii.gz").touch()
    (tmp_path / "dataset.json").write_text(
        json.dumps(dict(channel_names={"0": "CT"}, labels=dict(background=0, a=1), file_ending=".nii.gz"))
    )
    train, val = read_datalist(tmp_path, None).split(0)
    write_datalist(tmp_path / "list.json", tmp_path, train, val, 0)
    again = read_datalist(tmp_path, tmp_path / "list.json").split(0)
    assert [case.name for case in (*again[0], *again[1])] == [case.name for case in (*train, *val)]


def test_names_of_entries_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(dict(training=[dict(name="../a", image="a.nii", label="b.nii")])))
    with raises_one_line(ValueError, "name of a file"):
        read_datalist(tmp_path, tmp_path / "list.json")
