"""Tests the choice among cross-validations: noise changes nothing, a gain is taken, numbers are those of the steps."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from volume_plans import small_plan

from vil_dense.files import sha256
from vil_dense.medical.cross_validations import (
    PooledFolds,
    check_same_cases,
    read_chosen,
    read_cross_validation,
    write_chosen,
)
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.metrics import score_case
from vil_dense.medical.postprocess import postprocess
from vil_dense.medical.selection import STEPS, Selection, dice_of, is_gain, step_dice
from vil_dense.medical.statistics import draw_counts

PLAN = small_plan("organ", "vessel")
SHAPE = (14, 12, 10)


def truth(seed: int) -> np.ndarray:
    """Returns a block of each class, whose size differs between the cases."""
    label = np.zeros(SHAPE, np.uint8)
    label[1 : 5 + seed % 3, 2:8, 2:8], label[9:12, 2:6, 2:6] = 1, 2
    return label


def noisy(seed: int, errors: int) -> np.ndarray:
    """Returns the truth with so many wrong voxels at its surfaces, at random."""
    label, rng = truth(seed), np.random.default_rng(100 + seed)
    edge = np.argwhere((label > 0) & (np.roll(label, 1, 2) == 0))
    label[tuple(edge[rng.choice(len(edge), errors, replace=False)].T)] = 0
    return label


def write_run(
    root: Path,
    name: str,
    masks: list[np.ndarray],
    shares: list[np.ndarray] | None = None,
    *,
    plan: dict = PLAN,
    truths: list[np.ndarray] | None = None,
) -> Path:
    """Writes what a cross-validation of two folds leaves: masks, labels, perhaps probabilities, and study.json."""
    folder, cases = root / name, []
    for seed, mask in enumerate(masks):
        fold, case = seed % 2, f"c{seed:02d}"
        label = root / f"labels/{case}.nii.gz"
        write_nifti(label, truths[seed] if truths else truth(seed), affine("LPS"))
        write_nifti(folder / f"masks/{case}.nii.gz", mask, affine("LPS"))
        if shares is not None:
            stored = np.round(shares[seed] * PROBABILITY_STEPS).astype(np.uint16)
            write_nifti(folder / f"fold_{fold}/held_out/probabilities/{case}.nii.gz", stored, affine("LPS"))
        cases.append(dict(name=case, fold=fold, patient=case, label=str(label)))
    checkpoints = []
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        (folder / f"fold_{fold}/iter_2.pth").write_bytes(name.encode() + bytes([fold]))
        file = folder / f"fold_{fold}/iter_2.pth"
        checkpoints.append(dict(file=f"fold_{fold}/iter_2.pth", sha256=sha256(file)))
    model = dict(plan=plan, network=dict(type="ViLUNet3D"))
    (folder / "study.json").write_text(json.dumps(dict(model=model, checkpoints=checkpoints, cases=cases)))
    return folder


def one_hot(mask: np.ndarray, sure: float) -> np.ndarray:
    """Probabilities whose largest is that of the mask."""
    return np.where(mask[..., None] == np.arange(3), sure, (1 - sure) / 2)


def finished(root: Path, name: str, masks: list[np.ndarray], shares: list[np.ndarray] | None = None) -> PooledFolds:
    return read_cross_validation(write_run(root, name, masks, shares))


def test_dice_is_that_of_the_metric_after_the_steps_themselves() -> None:
    """Tests every combination of steps on crumbs, holes, and classes inside one another, with voxels of 0.009 ml."""
    rng = np.random.default_rng(0)
    true, spacing = truth(1), (1.5, 2.0, 3.0)
    mask = np.where(rng.random(SHAPE) < 0.15, rng.integers(0, 3, SHAPE), true).astype(np.uint8)
    mask[2:4, 4:6, 4:6] = 0
    options = dict(classes=dict(organ=1, vessel=2), spacing_mm=spacing)
    plain = [score.dice for score in score_case("c", mask, true, **options)]
    np.testing.assert_allclose(dice_of(mask, true, [1, 2]), plain, atol=1e-6)
    found = {value: step_dice(mask, true, value, 0.009) for value in (1, 2)}
    for number, steps in enumerate(STEPS):
        for value, name in ((1, "organ"), (2, "vessel")):
            own = mask.copy()
            postprocess(own, {name: steps}, LabelMap.of(PLAN), 0.009)
            (score,) = score_case("c", own, true, classes={name: value}, spacing_mm=spacing)
            assert found[value][number] == pytest.approx(score.dice), steps
    assert len({round(dice, 6) for dice in found[1]}) > 3, "the steps differ here"


def test_absent_structures_count_as_in_the_metric() -> None:
    empty, full = np.zeros(SHAPE, np.uint8), truth(0)
    for mask, true in ((empty, empty), (empty, full), (full, empty)):
        scores = score_case("c", mask, true, classes=dict(organ=1, vessel=2), spacing_mm=(1, 1, 1))
        wanted = [np.nan if score.dice is None else score.dice for score in scores]
        np.testing.assert_array_equal(dice_of(mask, true, [1, 2]), wanted)
        np.testing.assert_array_equal([step_dice(mask, true, value, 0.001)[0] for value in (1, 2)], wanted)
    crumb = empty.copy()
    crumb[0, 0, 0] = 1
    found = step_dice(crumb, empty, 1, 0.001)
    assert found[0] == 0 and np.isnan(found[STEPS.index(dict(min_ml=0.01))]), "a removed false one is absent"


def test_a_step_that_helps_every_case_is_chosen(tmp_path: Path) -> None:
    masks = [noisy(seed, 3) for seed in range(20)]
    for mask in masks:
        mask[-1, -1, :3] = 1  # a crumb of the organ alone
    selection = Selection([finished(tmp_path, "a", masks)])
    members, steps = selection.choose()
    assert members == (0,) and steps in ({"organ": {"largest": True}}, {"organ": {"min_ml": 0.01}})
    before, after = (selection.describe(selection.table(members, own))["dice"] for own in ({}, steps))
    assert after > before
    assert selection.nested() == dict(dice=pytest.approx(after, abs=1e-9), same=2, folds=2)


def test_a_hole_that_the_step_of_another_structure_leaves_is_scored_as_it_is_filled(tmp_path: Path) -> None:
    masks = [noisy(seed, 3) for seed in range(6)]
    for mask in masks:
        mask[9:12, 2:6, 2:6] = 2
        mask[10, 4, 4] = 1  # a crumb of the organ in the vessel
    selection = Selection([finished(tmp_path, "a", masks)])
    steps = dict(organ=dict(largest=True), vessel=dict(fill_holes=True))
    for mask in masks:
        postprocess(mask, steps, LabelMap.of(PLAN), 0.001)
        assert mask[10, 4, 4] == 2
    wanted = [dice_of(mask, truth(seed), [1, 2]) for seed, mask in enumerate(masks)]
    np.testing.assert_allclose(selection.table((0,), steps), wanted, atol=1e-6)


@pytest.mark.parametrize("regions", [True, False], ids=["regions", "classes"])
def test_regions_and_voxels_without_annotation(regions: bool, tmp_path: Path) -> None:
    """Tests that small parts are removed, and the scores are those of the metric after the steps themselves."""
    labels = dict(background=0, whole=[1, 2], core=2) if regions else dict(background=0, whole=1, core=2)
    plan = PLAN | dict(labels=labels, class_order=[*labels], ignore_label=255)
    plan |= dict(regions_class_order=[1, 2]) if regions else {}
    known, seeds = LabelMap.of(plan), range(20)
    masks, truths = [noisy(seed, 3) for seed in seeds], [truth(seed) for seed in seeds]
    for mask, true in zip(masks, truths, strict=True):
        mask[-1, -1, :3] = 1  # a crumb
        mask[6:8, :, 0], true[6:8, :, 0] = 2, 255  # nobody knows
    found = read_cross_validation(write_run(tmp_path, "a", masks, plan=plan, truths=truths))
    check_same_cases([found])
    selection = Selection([found])
    members, steps = selection.choose()
    assert steps == dict(whole=dict(min_ml=0.01)) or (not regions and steps == dict(whole=dict(largest=True)))
    for own in ({}, steps, dict(core=dict(largest=True), whole=dict(fill_holes=True))):
        wanted = []
        for mask, true in zip(masks, truths, strict=True):
            after = mask.copy()
            postprocess(after, own, known, 0.001)
            scores = score_case("c", after, true, classes=known.structures, spacing_mm=(1, 1, 1), ignore=255)
            wanted.append([score.dice for score in scores])
        np.testing.assert_allclose(selection.table(members, own), wanted, atol=1e-6)
    assert selection.nested()["same"] == 2


def test_noise_and_few_patients_choose_nothing(tmp_path: Path) -> None:
    """Crumbs in as many cases as true small parts lie apart; and gains in all of four patients."""
    masks = [noisy(seed, 3) for seed in range(12)]
    for mask in masks[:2]:
        mask[-1, -1, :3] = 1
    assert Selection([finished(tmp_path / "rare", "a", masks)]).choose() == ((0,), {})
    few = [noisy(seed, 3) for seed in range(4)]
    for mask in few:
        mask[-1, -1, :3] = 1
    assert Selection([finished(tmp_path / "few", "a", few)]).choose() == ((0,), {})


def test_a_gain_is_beyond_chance() -> None:
    """Tests 20 patients: better in all, better in 12 and worse in 8, a little better in all but one of many changes."""
    before = np.full((20, 2), 0.5)
    patients = np.array([f"p{number}" for number in range(20)])
    counts = draw_counts(list(patients))

    def gained(changes: list[float], tried: int = 1, owners: np.ndarray = patients) -> bool:
        after = before.copy()
        after[:, 0] += changes
        return is_gain(before, after, owners, draw_counts(list(owners)), tried)

    assert gained([0.01] * 20) and gained([0.01] * 20, tried=100)
    assert not gained([0.1] * 12 + [-0.1] * 8), "the mean rises, but it would fall for other patients"
    assert gained([0.1] * 16 + [-0.1] * 4) and not gained([0.1] * 16 + [-0.1] * 4, tried=200)
    assert gained([0.01] * 6 + [0.0] * 14) and not gained([0.01] * 5 + [0.0] * 15), "log2(40) patients"
    assert not gained([0.01] * 20, owners=patients[np.arange(20) // 4]), "of five patients"
    assert not is_gain(before, before, patients, counts)


def test_the_better_configuration_and_a_pair_that_is_better_than_both(tmp_path: Path) -> None:
    """Tests two that are sure where they are right and unsure where they are wrong: their mean is right."""
    runs = {}
    for name, errors, offset in (("a", 6, 0), ("b", 8, 50)):
        masks, shares = [], []
        for seed in range(10):
            true = truth(seed)
            rng = np.random.default_rng(offset + seed)
            wrong = rng.choice(true.size, errors * 4, replace=False)
            mask = true.copy()
            mask.ravel()[wrong] = (mask.ravel()[wrong] + 1) % 3
            share = one_hot(true, 0.9)
            share.reshape(-1, 3)[wrong] = one_hot(mask, 0.5).reshape(-1, 3)[wrong]
            masks.append(mask)
            shares.append(share)
        runs[name] = finished(tmp_path, name, masks, shares)
    selection = Selection([runs["b"], runs["a"]])
    assert selection.members == [(0,), (1,), (0, 1)] and selection.of_runs == ["b", "a"]
    assert selection.choose()[0] == (0, 1)
    dice = [selection.describe(selection.plain[one])["dice"] for one in selection.members]
    assert dice[2] > 0.99 > dice[1] > dice[0]
    for path in (tmp_path / "b").rglob("probabilities/*"):
        path.unlink()
    alone = Selection([runs["b"], runs["a"]])
    assert alone.members == [(0,), (1,)] and alone.choose()[0] == (1,), "the better one"


def test_pairs_of_tilted_volumes(tmp_path: Path) -> None:
    """Tests files whose slices are moved along J, as those of a tilted gantry."""
    masks = [truth(seed) for seed in range(4)]
    folders = [write_run(tmp_path, name, masks, [one_hot(mask, 0.9) for mask in masks]) for name in "ab"]
    for path in tmp_path.rglob("*.nii.gz"):
        image = nibabel.load(path)
        place = image.affine.copy()
        place[1, 2] += np.tan(np.deg2rad(15)) * np.linalg.norm(place[:3, 2])
        write_nifti(path, np.asarray(image.dataobj), place)
    selection = Selection([read_cross_validation(folder) for folder in folders])
    assert [float(selection.plain[one].min()) for one in selection.members] == [1.0, 1.0, 1.0]


def test_a_choice_is_written_and_read(tmp_path: Path) -> None:
    runs = [finished(tmp_path / "cv", name, [truth(0), truth(1)]) for name in "ab"]
    path = tmp_path / "here/best.json"
    steps = dict(organ=dict(min_ml=0.1))
    write_chosen(path, runs, steps, dict(rule="x"))
    chosen = read_chosen(path)
    assert chosen.steps == steps and [len(files) for files in chosen.checkpoints] == [2, 2]
    assert all(file.is_file() for files in chosen.checkpoints for file in files)
    assert chosen.models[0]["network"] == dict(type="ViLUNet3D")
    (tmp_path / "cv/b/fold_1/iter_2.pth").write_bytes(b"other")
    with raises_one_line(ValueError, "iter_2.pth", "best.json", "SHA-256"):
        read_chosen(path)
    (tmp_path / "cv/b/fold_1/iter_2.pth").unlink()
    with raises_one_line(FileNotFoundError, "iter_2.pth", "best.json"):
        read_chosen(path)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ([1], ("best.json",)),
        (dict(networks=[], postprocess={}), ("best.json",)),
        (dict(networks=[dict(model=dict(plan=PLAN, network={}, init_cfg=1), checkpoints=[dict(file="a", sha256="b")])],
              postprocess={}), ("init_cfg",)),
        (dict(networks=[dict(model=dict(plan=PLAN, network={}), checkpoints=[dict(file="a", sha256="b")])],
              postprocess=dict(tumour={})), ("tumour",)),
    ],
)  # fmt: skip
def test_choices_that_are_refused(content: object, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text(json.dumps(content))
    with raises_one_line(ValueError, *names):
        read_chosen(tmp_path / "best.json")


def test_cross_validations_that_are_refused(tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, tmp_path, "study.json"):
        read_cross_validation(tmp_path)
    three = finished(tmp_path, "a", [truth(0)] * 3)
    two = finished(tmp_path, "b", [truth(0)] * 2)
    with raises_one_line(ValueError, three.folder, two.folder, "c02"):
        check_same_cases([three, two])
    with raises_one_line(ValueError, "classes"):
        check_same_cases([two, two._replace(labels=LabelMap(dict(background=(0,)), (0,)))])
    (tmp_path / "b/study.json").write_text("{}")
    with raises_one_line(ValueError, tmp_path / "b/study.json"):
        read_cross_validation(tmp_path / "b")
    write_nifti(tmp_path / "a/masks/c00.nii.gz", truth(0)[1:], affine("LPS"))
    with raises_one_line(ValueError, "c00.nii.gz"):
        Selection([three])
    assert nibabel.load(tmp_path / "a/masks/c01.nii.gz").shape == SHAPE
