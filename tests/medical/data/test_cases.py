"""Tests that faults of a data list are found before the first step, in a sentence that names the case."""

from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import raises_one_line

from vil_dense.medical.data.cases import Counts, check_cases
from vil_dense.medical.datalists.datalist import Case

IMAGE = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
LABEL = (IMAGE > 60).astype(np.uint8)


def case(folder: Path, name: str = "a", image: np.ndarray = IMAGE, label: np.ndarray = LABEL, place=None) -> Case:
    paths = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
    write_nifti(paths[0], image)
    write_nifti(paths[1], label, place)
    return Case(name, (paths[0],), paths[1])


def test_sound_cases_pass_and_are_handed_on(tmp_path: Path) -> None:
    seen, told = [], []
    cases = [case(tmp_path, "a"), case(tmp_path, "b")]
    check_cases(
        cases, 1, (0, 1), lambda *n: told.append(n), lambda c, loaded: seen.append((c.name, loaded.image.shape))
    )
    assert seen == [("a", (1, 4, 5, 6)), ("b", (1, 4, 5, 6))] and told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("faulty", "names"),
    [
        (dict(image=np.where(IMAGE == 7, np.nan, IMAGE)), ("a.nii.gz", "1 voxel of NaN")),
        (dict(label=LABEL * 7), ("a_label.nii.gz", "label 7", "0, 1")),
        (dict(place=affine("LAS")), ("a.nii.gz", "a_label.nii.gz", " mm")),
    ],
    ids=["nan", "range", "affine"],
)
def test_faults(tmp_path: Path, faulty: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, "1 of 2", "case a", *names):
        check_cases([case(tmp_path, **faulty), case(tmp_path, "b")], 1, (0, 1))


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    bad = case(tmp_path)
    content = bad.images[0].read_bytes()
    bad.images[0].write_bytes(content[: len(content) // 2])
    with raises_one_line(ValueError, "case a", "a.nii.gz"):
        check_cases([bad], 1, (0, 1))
    bad.images[0].unlink()
    with raises_one_line(ValueError, "case a", "a.nii.gz"):
        check_cases([bad], 1, (0, 1))


def test_many_faults_are_counted(tmp_path: Path) -> None:
    cases = [case(tmp_path, f"c{n}", label=LABEL * 9) for n in range(8)]
    with raises_one_line(ValueError, "8 of 8", "3 more"):
        check_cases(cases, 1, (0, 1))


def test_when_time_is_up_the_rest_need_only_be_there(tmp_path: Path) -> None:
    cases = [case(tmp_path, name, label=LABEL * (1 if name == "a" else 9)) for name in "abc"]
    counts = Counts(dict(labels=dict(background=0, organ=1)))
    check_cases(cases, 1, (0, 1), each=counts, seconds=0.0)
    assert counts.read == 1 and list(counts.voxels.values()) == np.bincount(LABEL.ravel()).tolist()
    cases[2].label.unlink()
    with raises_one_line(ValueError, "1 of 3", "case c", "c_label.nii.gz"):
        check_cases(cases, 1, (0, 1), seconds=0.0)
