"""Tests what a plan measures, what it makes of spacing, size and modality, which values it has, and the sample."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import assert_one_line, raises_one_line
from volume_plans import small_plan

from vil_dense.medical.data.cases import Cases, loaded_bytes, preprocessed_bytes, read_case
from vil_dense.medical.data.plan import make_plan, target_spacing
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.data.plan_sizes import Target
from vil_dense.medical.data.transforms import LoadCased, training_cases
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.synthetic.volumes import LABELS, make_case, write_sample

PLAN = small_plan("a", "b")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("volumes") / "phantom", train=3, val=1)


@pytest.fixture(scope="module")
def made(sample: Path) -> dict:
    small = dict(channels=(4, 8), depths=(0, 1), deep_supervision=1)
    return make_plan(read_datalist(sample), set_values=dict(network=small, batch_size=3))


def test_measures_the_data(sample: Path, made: dict) -> None:
    assert made["data"]["cases"] == 4 and made["data"]["orientations"] == ["LAS", "LPS", "PSR", "RAS"]
    # Sizes and spacings are in RAS order whatever the file's.
    assert {tuple(case["shape_vox"]) for case in made["cases"]} == {(72, 64, 28)}
    assert {tuple(case["spacing_mm"]) for case in made["cases"]} == {(2.0, 2.0, 5.0)}
    assert made["data"]["cases_with_class"] == dict.fromkeys(LABELS, 4)
    assert sum(made["data"]["share_of_class"].values()) == pytest.approx(1, abs=1e-4)
    counts = np.bincount(make_case(0)[1].ravel()).tolist()
    assert made["cases"][0]["voxels_of_value"] == dict(enumerate(counts))


def test_choices_and_overrides(made: dict) -> None:
    plan = read_plan(json.loads(json.dumps(made))["plan"])
    assert plan["channels"] == ["CT"] and plan["labels"] == LABELS and plan["intensity"][0]["rule"] == "ct"
    assert plan["spacing_mm"] == [2.0, 2.0, 5.0] and plan["median_size_vox"] == [72, 64, 28]
    assert plan["batch_size"] == 3 and plan["network"]["channels"] == [4, 8]
    assert made["cost"]["tokens"] == {"/2x2x1": np.prod(plan["patch_vox"]) // 4}


def test_an_unknown_key_is_refused(sample: Path) -> None:
    with raises_one_line(ValueError, "patch", "channels"):
        make_plan(read_datalist(sample), set_values=dict(patch=1))


BAD_VALUES = [
    (dict(spacing_mm=(1, 1)), ("spacing_mm", "(1, 1)")),
    (dict(spacing_mm=(1, 1, 2000.0)), ("spacing_mm", "0.001 to 1000")),
    (dict(patch_vox=(8, 8)), ("patch_vox", "(8, 8)")),
    (dict(batch_size=-2), ("batch_size", "got -2")),
    (dict(orientation="RAX"), ("orientation", "'RAX'")),
    (dict(intensity=[dict(rule="scores")]), ("'scores'", "zscore, ct, range")),
    (dict(intensity=[dict(rule="zscore")] * 2), ("intensity", "1 channels")),
    (dict(labels=dict(liver=1, organ=2)), ("labels", "'organ': 2")),
    (dict(network=[4, 8]), ("network", "ViLUNet3D")),
    (dict(nan_background="0"), ("nan_background", "'0'")),
    (dict(nan_background=float("nan")), ("nan_background", "nan")),
]


@pytest.mark.parametrize(("values", "names"), BAD_VALUES)
def test_a_bad_value_is_refused_before_files_are_read(sample: Path, values: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        make_plan(read_datalist(sample), set_values=values, report=lambda done, total: pytest.fail("read a file"))
    with raises_one_line(ValueError, *names):
        read_plan({**PLAN, **values})


def test_one_name_stands_for_a_list(sample: Path) -> None:
    small = dict(channels=(4, 8), depths=(0, 1))
    plan = make_plan(read_datalist(sample), set_values=dict(channels="T1", intensity="zscore", network=small))["plan"]
    assert plan["channels"] == ["T1"] and plan["intensity"] == [dict(rule="zscore")]


@pytest.mark.parametrize("values", [(0, 255), (0, 1, 3), (0,)])
def test_unnamed_classes_have_no_gap(values: tuple[int, ...], tmp_path: Path) -> None:
    label = np.resize(np.array(values, np.uint8), (16, 16, 16))
    for folder in ("images", "labels"):
        write_nifti(tmp_path / folder / "a.nii.gz", label)
    with raises_one_line(ValueError, ", ".join(map(str, values))):
        make_plan(read_datalist(tmp_path))


def test_a_background_of_nan_is_in_the_plan_on_request(tmp_path: Path) -> None:
    """Tests that the plan reads it so, and with the plan the transforms of a training."""
    image = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    image[:4] = np.nan
    write_nifti(tmp_path / "images/a.nii.gz", image)
    write_nifti(tmp_path / "labels/a.nii.gz", (np.arange(16**3).reshape(16, 16, 16) % 2).astype(np.uint8))
    small = dict(channels=(4, 8), depths=(0, 1))
    with raises_one_line(ValueError, "NaN", "nan_background=0"):
        make_plan(read_datalist(tmp_path), set_values=dict(network=small))
    made = make_plan(read_datalist(tmp_path), set_values=dict(network=small, nan_background=-3))
    assert made["plan"]["nan_background"] == -3
    (case,) = read_datalist(tmp_path).cases
    loaded = LoadCased(("image", "label"), made["plan"])(case.as_dict())["image"].numpy()[0]
    assert (loaded[:4] == -3).all()
    np.testing.assert_array_equal(loaded[4:], image[4:])


def test_what_follows_from_a_given_spacing(sample: Path) -> None:
    values = dict(spacing_mm=(4.0, 4.0, 5.0), network=dict(channels=(4, 8), depths=(0, 1)))
    made = make_plan(read_datalist(sample), set_values=values, target=Target(patch_vox=16**3))
    assert made["plan"]["median_size_vox"] == [36, 32, 28]
    assert np.prod(made["plan"]["patch_vox"]) <= 16**3


@pytest.mark.parametrize(("side", "seen"), [(30, True), (36, False)])
def test_a_structure_that_a_patch_sees_too_little_of(side: int, seen: bool, tmp_path: Path) -> None:
    """Tests one that is more than twice as long as the patch; at the proposed spacing the patch sees all of it."""
    label = np.zeros((48, 24, 24), np.uint8)
    label[4 : 4 + side, 8:12, 8:12] = 1
    for folder, voxels in (("images", label.astype(np.float32)), ("labels", label)):
        write_nifti(tmp_path / folder / "a.nii.gz", voxels, affine("RAS", (1.0, 2.0, 2.0)))
    values = dict(network=dict(channels=(4, 8), depths=(0, 1)), patch_vox=(16, 16, 16))
    found = make_plan(read_datalist(tmp_path), set_values=values)["low_resolution"]
    if seen:
        assert found is None
        return
    assert found["structure"] == "class 1" and found["extent_mm"] == [36, 8, 8] and found["patch_mm"] == [16, 32, 32]
    assert 36 / 16 <= found["spacing_mm"][0] == found["spacing_mm"][1] < 3, "the finest axis first, then all alike"
    again = make_plan(
        read_datalist(tmp_path),
        set_values=dict(network=values["network"], spacing_mm=found["spacing_mm"]),
        target=Target(patch_vox=16**3),
    )
    assert again["low_resolution"] is None


def test_target_spacing_of_thick_slices_is_not_the_median() -> None:
    assert target_spacing([(1, 1, 1)] * 3 + [(2, 2, 2)]) == [1, 1, 1]
    thick = target_spacing([(0.8, 0.8, mm) for mm in (2, 4, 5, 5, 5, 5, 5, 5, 5, 5)])
    assert thick[:2] == [0.8, 0.8] and 2 < thick[2] < 5


def test_cache_is_capped_and_its_estimate_holds(sample: Path, made: dict) -> None:
    cases, plan, said = read_datalist(sample).cases, made["plan"], []
    sizes = [preprocessed_bytes(case, plan) for case in cases]
    cached = Cases(cases, training_cases(plan), sizes, 2.5 * sizes[1] / 2**30, lambda done, total: None, said.append)
    assert len(cached) == 4 and len(cached.cached) == 2 and said[0].startswith("cache: 2 of 4 cases")
    item = cached.cached[1]
    assert sizes[1] == item["image"].numel() * 4 + item["label"].numel()
    cached[1]["image"].zero_()
    assert cached[1]["image"].any(), "an item is a copy"
    assert cached[3]["name"] == cases[3].name, "other items are made"
    loaded = read_case(cases[1], 1, plan["labels"].values())
    assert loaded_bytes(cases[1], plan) == loaded.image.nbytes + loaded.label.nbytes


def test_sample_is_made_once_and_turns_back(sample: Path) -> None:
    before = (sample / "imagesTr/phantom_001.nii.gz").stat().st_mtime_ns
    assert write_sample(sample, train=3, val=1) == sample
    assert (sample / "imagesTr/phantom_001.nii.gz").stat().st_mtime_ns == before
    turned = nib.as_closest_canonical(nib.load(sample / "imagesTr/phantom_002.nii.gz"))
    np.testing.assert_array_equal(np.asanyarray(turned.dataobj), make_case(2)[0])
    with raises_one_line(ValueError, "sample"):
        write_sample(sample / "imagesTr")


def test_a_stopped_sample_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", train=1, val=1, report=stop)
    assert not list(tmp_path.iterdir())


def test_no_brightness_tells_the_organs_of_the_sample() -> None:
    """Tests that the means of liver and spleen lie within each other's spread, and those of vessel and gland."""
    means = np.array([[image[labels == n].mean() for n in range(1, 5)] for image, labels in map(make_case, range(12))])
    for one, other in ((0, 1), (2, 3)):
        assert abs(means[:, one].mean() - means[:, other].mean()) < means[:, one].std() + means[:, other].std()


def test_plan_from_a_file_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dict(plan=PLAN, data={})))
    assert read_plan(path) == json.loads(json.dumps(PLAN))
    with raises_one_line(ValueError, "intensity"):
        read_plan({key: value for key, value in PLAN.items() if key != "intensity"})
    with raises_one_line(FileNotFoundError, "tools/volumes/plan.py"):
        read_plan(tmp_path / "none.json")


def test_a_case_without_foreground_tells_nothing_of_its_intensities(tmp_path: Path) -> None:
    """Tests a CT of a healthy control, whose label is all background: air is not clipped to."""
    for n in range(4):
        label = np.zeros((16, 16, 8), np.uint8)
        label[4:9, 4:9, 2:6] = n > 0
        write_nifti(tmp_path / f"images/{n}.nii.gz", np.where(label, 100 + n, -1000).astype(np.int16))
        write_nifti(tmp_path / f"labels/{n}.nii.gz", label)
    small = dict(network=dict(channels=(4, 8), depths=(0, 1), deep_supervision=1), channels=["CT"])
    for extra in ({}, dict(ignore_label=1, labels=dict(background=0, organ=2))):  # then no label has foreground
        made = make_plan(read_datalist(tmp_path), set_values={**small, **extra})
        assert made["plan"]["intensity"][0]["low"] == pytest.approx(-1000 if extra else 101, abs=1)


@pytest.mark.parametrize("name", ["noNorm", "rescale_to_0_1"])
def test_other_normalisations_of_nnunet_are_named(name: str, sample: Path) -> None:
    small = dict(network=dict(channels=(4, 8), depths=(0, 1), deep_supervision=1), channels=[name])
    made = make_plan(read_datalist(sample), set_values=small)
    assert made["plan"]["intensity"] == [dict(rule="zscore")]
    assert_one_line(made["warnings"][0], name, "z-scores", "--set intensity")
    assert not make_plan(read_datalist(sample), set_values={**small, "intensity": "zscore"})["warnings"]
