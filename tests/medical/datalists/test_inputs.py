"""Tests which cases are found in files, folders and data lists."""

import json
from pathlib import Path

import numpy as np
import pytest
from nifti_files import write_nifti
from refusals import raises_one_line

from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.medical.datalists.inputs import by_frame, describe_inputs, find_cases, read_unlabelled


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def found(*args: object, **options: object) -> dict[str, list[str]]:
    return {case.name: [path.name for path in case.images] for case in find_cases(*args, **options)}


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "b.nii.gz", "a.nii", ".hidden.nii", "notes.txt", "amos_0007.nii.gz")
    assert found(folder) == dict(a=["a.nii"], amos_0007=["amos_0007.nii.gz"], b=["b.nii.gz"])
    assert found(folder / "b.nii.gz") == dict(b=["b.nii.gz"])


def test_channels_of_a_case_are_told_from_case_numbers(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "x_0000.nii", "x_0001.nii", "y_0001.nii", "y_0000.nii", "amos_0004.nii")
    expected = dict(x=["x_0000.nii", "x_0001.nii"], y=["y_0000.nii", "y_0001.nii"], amos_0004=["amos_0004.nii"])
    assert found(folder, channels=2) == expected
    assert list(found(folder, channels=1)) == ["amos_0004", "x_0000", "x_0001", "y_0000", "y_0001"]
    assert found(touch(tmp_path / "one", "x_0000.nii", "y_0000.nii")) == dict(x=["x_0000.nii"], y=["y_0000.nii"])
    assert found(tmp_path / "one/x_0000.nii") == dict(x=["x_0000.nii"]), "a file has the name that it has in a folder"
    assert list(found(tmp_path / "in/x_0000.nii", channels=2)) == ["x_0000"]


def test_a_data_list(tmp_path: Path) -> None:
    training = [
        dict(image=f"im/{name}.nii.gz", label=f"lab/{name}.nii.gz", fold=fold) for fold, name in enumerate("cba")
    ]
    content = dict(name="set", training=training, testing=["./ts/t.nii.gz", dict(image=["t2_0000.nii", "t2_0001.nii"])])
    path = tmp_path / "list.json"
    path.write_text(json.dumps(content))
    assert found(path) == dict(t=["t.nii.gz"], t2=["t2_0000.nii", "t2_0001.nii"])
    assert list(found(path, section="training")) == ["a", "b", "c"]
    (case,) = find_cases(path, section="training", fold=1)
    assert case.images == (tmp_path / "im/b.nii.gz",) and case.label == tmp_path / "lab/b.nii.gz"


@pytest.mark.parametrize(
    ("content", "options", "names"),
    [
        (dict(training=[]), {}, ("list.json", "testing, test, validation, training", "lists: training")),
        (dict(test=["a.nii"]), dict(section="tests"), ("list.json", "tests", "lists: test")),
        (dict(test=["a.nii"]), dict(fold=3), ("list.json", "fold 3", "test")),
        (dict(test=[dict(picture="a.nii")]), {}, ("list.json", "'picture'")),
        ([1], {}, ("list.json", "testing, test, validation, training", "none")),
    ],
    ids=["empty", "section", "fold", "entry", "list"],
)
def test_data_lists_that_are_refused(content: object, options: dict, names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(content))
    with raises_one_line(ValueError, *names):
        find_cases(path, **options)


def test_inputs_that_are_refused(tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "nowhere"):
        find_cases(Path("nowhere"))
    with raises_one_line(FileNotFoundError, "empty", ".nii.gz"):
        find_cases(touch(tmp_path / "empty", "a.tif"))
    folder = touch(tmp_path / "in", "a.nii", "a.nii.gz")
    with raises_one_line(ValueError, "a.nii", "a.nii.gz"):
        find_cases(folder)
    with raises_one_line(ValueError, "--section", "--fold"):
        find_cases(folder, fold=0)
    (tmp_path / "no.json").write_text("{")
    with raises_one_line(ValueError, "no.json"):
        find_cases(tmp_path / "no.json")
    with raises_one_line(FileNotFoundError, "none.json"):
        find_cases(Path("none.json"))


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    names = ["a.nii.gz", "b.mhd", "b.raw", "t2.tif", "t2.npy", ".hidden.nii", "x_0000.nii", "x_0001.nii", "y_0000.nii"]
    for name in names:
        (tmp_path / name).touch()
    cases = find_cases(tmp_path)
    skipped, split = describe_inputs(tmp_path, cases, 1)
    assert skipped == f"2 files in {tmp_path} are not read: t2.npy, t2.tif"
    assert "1 names (x_0000, ...)" in split
    assert describe_inputs(tmp_path / "a.nii.gz", find_cases(tmp_path / "a.nii.gz"), 1) == []


def test_channel_files_for_a_network_of_one_channel_are_refused(tmp_path: Path) -> None:
    """Tests files of which each would be a case, with a mask that looks like one of a patient."""
    touch(tmp_path, *(f"{name}_{channel:04d}.nii.gz" for name in "pqr" for channel in range(3)))
    cases = find_cases(tmp_path, channels=1)
    assert len(cases) == 9
    with raises_one_line(ValueError, tmp_path, "3 names", "p_0000", "p_0002", "1 channel", "JSON"):
        describe_inputs(tmp_path, cases, 1)
    with raises_one_line(ValueError, "2 channels"):
        describe_inputs(tmp_path, find_cases(tmp_path, channels=2), 2)
    assert list(found(tmp_path, channels=3)) == ["p", "q", "r"]
    assert describe_inputs(tmp_path, find_cases(tmp_path, channels=3), 3) == []


def test_a_series_in_time_is_read_by_frame(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.zeros((4, 4, 4, 3), np.uint8))
    (tmp_path / "b.nii").write_text("no volume")
    cases = find_cases(tmp_path)
    assert [(case.name, case.frame) for case in by_frame(cases, "all")] == [
        ("a_t000", 0),
        ("a_t001", 1),
        ("a_t002", 2),
        ("b_t000", 0),
    ]
    assert [case.name for case in by_frame(cases, "2")] == ["a_t002", "b_t002"]
    for wrong in ("-1", "first"):
        with raises_one_line(ValueError, "--frame", "all", wrong):
            by_frame(cases, wrong)


def test_folds_of_every_layout(tmp_path: Path) -> None:
    """Tests that plain folders and nnU-Net's, by the folder or its dataset.json, have the folds of a training."""
    names = [f"c{number}" for number in range(8)]
    plain = tmp_path / "plain"
    for folder in ("images", "labels"):
        touch(plain / folder, *(f"{name}.nii.gz" for name in names))
    raw = tmp_path / "nnunet"
    touch(raw / "labelsTr", *(f"{name}.nii.gz" for name in names))
    touch(raw / "imagesTr", *(f"{name}_000{channel}.nii.gz" for name in names for channel in (0, 1)))
    (raw / "dataset.json").write_text(json.dumps(dict(channel_names={"0": "T1", "1": "T2"}, labels=dict(a=0, b=1))))
    listed = tmp_path / "listed"
    entries = [dict(image=f"{name}.nii.gz", label=f"{name}_l.nii.gz", fold=number) for number, name in enumerate(names)]
    touch(listed, *(f"{name}{part}.nii.gz" for name in names for part in ("", "_l")))
    (listed / "dataset.json").write_text(json.dumps(dict(training=entries)))
    for root in (plain, raw, listed):
        held_out = [case.name for case in read_datalist(root).split(1)[1]]
        for source in (root, root / "dataset.json"):
            if source.exists():
                assert list(found(source, 2, fold=1)) == held_out and held_out
                assert list(found(source, 2, section="training", fold=1)) == held_out
                assert list(found(source, 2, section="training")) == names
    assert found(raw, section="training")["c0"] == ["c0_0000.nii.gz", "c0_0001.nii.gz"]
    (listed / "dataset.json").unlink()
    pairs = [found(plain, fold=fold, patient=r"^..") for fold in range(5)]
    assert sorted(name for fold in pairs for name in fold) == names
    with raises_one_line(ValueError, "fold 9", "0, 1, 2, 3, 4"):
        find_cases(plain, fold=9)
    with raises_one_line(ValueError, plain, "testing", "training"):
        find_cases(plain, section="testing")


def test_a_list_without_labels_need_not_hold_the_cases_of_the_folds(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr", "a.nii", "b.nii")
    (tmp_path / "splits_final.json").write_text(json.dumps([dict(train=["a"], val=["b"])]))
    (tmp_path / "unlabelled.json").write_text(json.dumps(dict(training=[dict(image="imagesTr/a.nii")])))
    assert [case.name for case in read_unlabelled(tmp_path, "unlabelled.json").cases] == ["a"]
