"""Tests the layouts in which volumes come, and their folds."""

import json
from pathlib import Path

import pytest
from refusals import assert_one_line, raises_one_line

from vil_dense.medical.datalists.datalist import case_name, read_datalist
from vil_dense.medical.datalists.inputs import find_cases


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def decathlon(root: Path) -> Path:
    entries = [dict(image=f"./imagesTr/c{n}.nii.gz", label=f"./labelsTr/c{n}.nii.gz") for n in (2, 0, 1)]
    dump(root / "dataset.json", dict(modality={"0": "CT"}, labels={"0": "none", "1": "liver"}, training=entries))
    return root


def test_decathlon(tmp_path: Path) -> None:
    listed = read_datalist(decathlon(tmp_path))
    assert [case.name for case in listed.cases] == ["c0", "c1", "c2"]
    assert listed.channels == ("CT",) and listed.label_keys == dict(labels=dict(none=0, liver=1))
    first = listed.cases[0]
    assert first.images == (tmp_path / "imagesTr/c0.nii.gz",) and first.label == tmp_path / "labelsTr/c0.nii.gz"
    assert first.as_dict() == dict(name="c0", image=str(first.images[0]), label=str(first.label))


def test_monai_folds_and_validation_list(tmp_path: Path) -> None:
    decathlon(tmp_path)
    entry = dict(label="l.nii")
    dump(tmp_path / "folds.json", dict(training=[dict(entry, image=f"c{n}.nii", fold=n % 2) for n in range(4)]))
    train, val = read_datalist(tmp_path, "folds.json").split(1)
    assert [case.name for case in train] == ["c0", "c2"] and [case.name for case in val] == ["c1", "c3"]
    lists = dict(training=[dict(entry, image="a.nii")], validation=[dict(entry, image="b.nii")])
    dump(tmp_path / "lists.json", lists)
    train, val = read_datalist(tmp_path, "lists.json").split(0)
    assert [case.name for case in train] == ["a"] and [case.name for case in val] == ["b"]


def test_nnunet_suffixes_and_splits(tmp_path: Path) -> None:
    labels = dict(background=0, RV=1, LV=2)
    dump(tmp_path / "dataset.json", dict(channel_names={"0": "T1", "1": "T2"}, labels=labels, file_ending=".nii.gz"))
    touch(tmp_path, *(f"imagesTr/p{n}_000{c}.nii.gz" for n in range(3) for c in range(2)))
    dump(tmp_path / "splits_final.json", [dict(train=["p0", "p1"], val=["p2"])])
    listed = read_datalist(tmp_path)
    assert [len(case.images) for case in listed.cases] == [2, 2, 2]
    assert (
        listed.cases[0].images[1].name == "p0_0001.nii.gz" and listed.cases[0].label == tmp_path / "labelsTr/p0.nii.gz"
    )
    assert listed.channels == ("T1", "T2") and listed.label_keys == dict(labels=labels)
    assert [case.name for case in listed.split(0)[1]] == ["p2"]


def test_an_image_is_no_label_of_its_own(tmp_path: Path) -> None:
    dump(
        tmp_path / "dataset.json",
        dict(training=[dict(image="a.nii", label="b.nii"), dict(image="c.nii", label="c.nii")]),
    )
    with pytest.raises(ValueError, match=r"case c has \S+c.nii both"):
        read_datalist(tmp_path)


def nnunet(root: Path, splits: object, cases: int = 6) -> Path:
    dump(root / "dataset.json", dict(channel_names={"0": "CT"}, labels=dict(background=0, a=1), file_ending=".nii.gz"))
    touch(root, *(f"imagesTr/p{n}_0000.nii.gz" for n in range(cases)))
    dump(root / "splits_final.json", splits)
    return root


def test_splits_are_followed_to_the_letter(tmp_path: Path) -> None:
    """Tests splits with p1 in both validation parts, and p4 and p5 in none."""
    splits = [dict(train=["p0"], val=["p1", "p3"]), dict(train=["p0", "p2"], val=["p1"])]
    listed = read_datalist(nnunet(tmp_path, splits))
    for fold, split in enumerate(splits):
        parts = [[case.name for case in part] for part in listed.split(fold)]
        assert parts == [split["train"], split["val"]]
    cases = find_cases(write_list(tmp_path, ["p0", "p1", "p2", "p3", "p4", "p5"]), section="training", fold=0)
    assert [case.name for case in cases] == ["p1", "p3"]


def write_list(root: Path, names: list[str]) -> Path:
    """Writes a data list of these cases beside the splits."""
    dump(root / "list.json", dict(training=[f"imagesTr/{name}.nii.gz" for name in names]))
    return root / "list.json"


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        ([dict(train=["p0", "p1"], val=["p1"])], "fold 0 has p1"),
        ([dict(train=["p0"], val=["p1"]), dict(train=["p0", "q7"], val=["p1"])], "fold 1 lists q7"),
        ([dict(val=["p1"])], "'train'"),
        ([["p0"]], "splits_final.json"),
        (dict(train=[], val=[]), "splits_final.json"),
    ],
)
def test_splits_that_cannot_be_followed(splits: object, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        read_datalist(nnunet(tmp_path, splits))


def test_one_file_name_in_several_folders(tmp_path: Path) -> None:
    entries = [dict(image=f"{site}/scan.nii", label=f"{site}/mask.nii") for site in ("b", "a")]
    dump(tmp_path / "dataset.json", dict(training=[*entries, dict(image="c.nii", label="d.nii")]))
    assert [case.name for case in read_datalist(tmp_path).cases] == ["a_scan", "b_scan", "c"]
    assert [case.name for case in find_cases(tmp_path / "dataset.json")] == ["a_scan", "b_scan", "c"]


def test_two_folders_and_made_folds(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{folder}/v{n:02d}.nii.gz" for folder in ("images", "labels") for n in range(10)), "images/x.txt"
    )
    listed = read_datalist(tmp_path)
    assert len(listed.cases) == 10 and listed.label_keys == {}
    assert listed == read_datalist(tmp_path), "made folds are the same each time"
    assert sorted(len(listed.split(fold)[1]) for fold in range(5)) == [2] * 5
    assert read_datalist(tmp_path, labelled=False).cases[0].label is None


def test_a_list_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in it are relative to the data all the same."""
    dump(tmp_path / "folds.json", dict(training=[dict(image="a.nii", label="l.nii", fold=0)]))
    monkeypatch.chdir(tmp_path)
    (case,) = read_datalist(decathlon(tmp_path / "data"), "folds.json").cases
    assert case.images == (tmp_path / "data/a.nii",)


def test_cases_of_a_patient_share_a_made_fold(tmp_path: Path) -> None:
    names = [f"patient{n:03d}_frame{frame:02d}.nii.gz" for n in range(20) for frame in (1, 9 + n)]
    touch(tmp_path, *(f"{folder}/{name}" for folder in ("images", "labels") for name in names))
    splits = read_datalist(tmp_path, patient=r"patient\d+").splits
    patients = [{name[:10] for name in split.val} for split in splits.values()]
    assert len(set().union(*patients)) == 20 == sum(map(len, patients)) and {len(of) for of in patients} == {4}
    with raises_one_line(ValueError, "patient000_frame01", "'subject'"):
        read_datalist(tmp_path, patient="subject")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"dataset.json": []}, ("dataset.json", "list")),
        (
            {"dataset.json": dict(training=[dict(image="a.nii")])},
            ("dataset.json", "{'image': 'a.nii'}"),
        ),
        ({"dataset.json": dict(training=[dict(image="a.png", label="b")])}, ("a.png",)),
        ({"dataset.json": dict(training=[dict(image="a.nii", label="b")] * 2)}, ("case a ", "2 times")),
        ({"dataset.json": dict(channel_names={"0": "CT"})}, ("*_0000.nii.gz", "dataset.json")),
        ({"dataset.json": dict(labels=dict(a=[1, "b"]), training=[])}, ("dataset.json", "'b'")),
        ({}, ("dataset.json", "imagesTr/", "labelsTr/", "images/", "labels/")),
    ],
)
def test_refuses_in_words(tmp_path: Path, content: dict, names: tuple[str, ...]) -> None:
    for name, value in content.items():
        dump(tmp_path / name, value)
    with raises_one_line(ValueError, *names):
        read_datalist(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, tmp_path / "none"):
        read_datalist(tmp_path / "none")
    with raises_one_line(FileNotFoundError, "none.json"):
        read_datalist(tmp_path, "none.json")
    with raises_one_line(ValueError, "fold 7", "0, 1, 2"):
        read_datalist(decathlon(tmp_path)).split(7)
    (tmp_path / "bad.json").write_text("{")
    with raises_one_line(ValueError, "bad.json"):
        read_datalist(tmp_path, "bad.json")


def test_names_lose_both_endings() -> None:
    assert case_name("a/b.c.nii.gz") == "b.c" and case_name("b.nii") == "b"


def test_files_that_no_case_reads_are_named(tmp_path: Path) -> None:
    """Tests another ending, an image without a channel number, a channel more, a label without an image."""
    nnunet(tmp_path, [dict(train=["p0"], val=["p1"])], cases=2)
    assert read_datalist(tmp_path).unread == ()
    touch(tmp_path, "imagesTr/p2_0000.nii", "imagesTr/p3.nii.gz", "imagesTr/p0_0001.nii.gz", "labelsTr/p9.nii.gz")
    images, labels = read_datalist(tmp_path).unread
    assert_one_line(images, "3 files in", "imagesTr are not read", "p0_0001.nii.gz", "p2_0000.nii", "p3.nii.gz")
    assert_one_line(labels, "1 file in", "labelsTr is not read", "p9.nii.gz")
    plain = touch(tmp_path / "plain", "images/a.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz")
    assert_one_line(*read_datalist(plain).unread, "1 file in", "b.nii.gz")
    assert read_datalist(decathlon(tmp_path / "listed")).unread == ()


def test_a_listed_image_with_a_channel_number_has_the_name_of_its_label(tmp_path: Path) -> None:
    entries = [
        dict(image="i/s0_0000.nii.gz", label="l/s0.nii.gz"),
        dict(image="i/s_0001.nii.gz", label="l/s_0001.nii.gz"),
    ]
    dump(tmp_path / "dataset.json", dict(training=entries))
    assert [case.name for case in read_datalist(tmp_path).cases] == ["s0", "s_0001"]
