"""Tests cross-validation without trainings: held-out masks, pooled scores, what is repeated and what is refused."""

import csv
import io
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fold_runs import cross_validated, read, seeded, write_cases, write_config
from refusals import raises_one_line

from vil_dense.medical.cross_validations import read_cross_validation, write_chosen
from vil_dense.mm.utils.run_folders import find_runs
from vil_dense.mm.volumes import load_predictor
from vil_dense.mm.volumes.cross_validation import CrossValidation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes data of three patients with two cases each, a config, and a finished cross-validation."""
    root = tmp_path_factory.mktemp("folds")
    path = write_config(root / "config.py", write_cases(root / "data"), patient=r"p\d")
    cross_validated(root / "study", path)
    return root


@pytest.fixture
def study(made: Path, tmp_path: Path) -> CrossValidation:
    """Returns a copy of the finished study."""
    shutil.copytree(made / "study", tmp_path / "study")
    return CrossValidation(tmp_path / "study", read(made / "config.py"))


def test_each_case_is_pooled_once(study: CrossValidation) -> None:
    rows = list(csv.DictReader((study.root / "metrics.csv").read_text().splitlines()))
    names = [case.name for case in study.data.cases]
    assert sorted({row["case"] for row in rows}) == names and len(rows) == 2 * len(names)
    assert [row["structure"] for row in rows[:2]] == ["organ_2", "organ_10"], "in the order of their labels"
    assert sorted(path.name for path in (study.root / "masks").iterdir()) == [f"{name}.nii.gz" for name in names]
    for fold, split in study.data.splits.items():
        assert {row["case"] for row in rows if row["fold"] == str(fold)} == split.val
    summary = json.loads((study.root / "summary.json").read_text())
    dice = np.mean(
        [np.mean([float(row["dice"]) for row in rows if row["structure"] == s]) for s in ("organ_2", "organ_10")]
    )
    assert summary["mean"]["dice"] == pytest.approx(dice) and summary["cases"] == 6
    low, high = summary["mean"]["dice_95"]
    assert low <= summary["mean"]["dice"] <= high and "3 patients" in summary["interval"]
    assert sum(row["cases"] for row in summary["by_fold"].values()) == 6 and summary["never_held_out"] == []


def test_a_mask_is_of_the_network_without_its_case(study: CrossValidation) -> None:
    """Tests that the mask of a case is that of its fold, and the folds' networks differ."""
    masks = {}
    for fold in study.data.splits:
        for case in study.data.split(fold)[1]:
            pooled = nibabel.load(study.root / f"masks/{case.name}.nii.gz").get_fdata()
            own = nibabel.load(study.folder(fold) / f"held_out/masks/{case.name}.nii.gz").get_fdata()
            np.testing.assert_array_equal(pooled, own)
            masks[fold] = pooled
    assert len({mask.tobytes() for mask in masks.values()}) > 1


def test_all_folds_and_a_choice_predict_from_python(study: CrossValidation, tmp_path: Path) -> None:
    write_chosen(tmp_path / "best.json", [read_cross_validation(study.root)], {"organ_2": {"largest": True}}, {})
    both = [load_predictor(source) for source in (study.root, tmp_path / "best.json")]
    assert [len(each.configurations[0].networks) for each in both] == [len(study.data.splits)] * 2
    assert [bool(each.steps) for each in both] == [False, True]
    image = study.data.cases[0].images[0]
    for predictor in both:
        found = predictor.predict(image, probabilities="organ_2")
        assert found.probabilities is not None and found.probabilities.shape == (*found.mask.shape, 1)


def test_a_fold_that_is_trained_anew_is_scored_anew(study: CrossValidation) -> None:
    fold = min(study.data.splits)
    record = json.loads((study.folder(fold) / "trained.json").read_text())
    (study.folder(fold) / record["checkpoint"]).unlink()
    scores = study.folder(fold) / "held_out/metrics.json"
    scores.write_text("of the network before")
    study.run(fold, seeded(study.cfg, []), stream=io.StringIO())
    assert study.is_scored(fold) and json.loads(scores.read_text())["mean"]
    (study.folder(fold) / "trained.json").write_text(json.dumps(record | dict(sha256="of another network")))
    assert not study.is_scored(fold)


def test_predictions_take_finished_folds_alone(study: CrossValidation) -> None:
    first, second, *_ = (study.folder(fold) for fold in study.data.splits)
    (first / "last_checkpoint").write_text("iter_1.pth")
    expected = json.loads((first / "trained.json").read_text())["checkpoint"]
    assert find_runs(study.root)[0] == (first, first / expected)
    (second / "trained.json").unlink()
    with raises_one_line(ValueError, f"{second.name} of {study.root} is not finished"):
        find_runs(study.root)


def test_what_is_finished_is_not_repeated(study: CrossValidation) -> None:
    first, second, third = study.data.splits
    (study.folder(first) / "held_out/metrics.json").unlink()
    (study.folder(second) / "trained.json").unlink()
    (study.folder(third) / "held_out/masks").rename(study.root / "elsewhere")
    trained: list[int] = []
    for fold in study.data.splits:
        study.run(fold, seeded(study.cfg, trained), stream=io.StringIO())
    assert trained == [second]
    assert all(map(study.is_scored, study.data.splits))


def test_what_is_refused(study: CrossValidation, made: Path) -> None:
    cfg = read(made / "config.py")
    cfg.model.overlap = 0.5
    with raises_one_line(ValueError, study.root, "sha256", "--work-dir"):
        CrossValidation(study.root, cfg)
    with raises_one_line(ValueError, "fold 7"):
        study.run(7, seeded(study.cfg))
    fold, _, last = study.data.splits
    record = study.folder(last) / "trained.json"
    record.write_text(json.dumps(dict(checkpoint="iter_2.pth", held_out=["x"])))
    with raises_one_line(ValueError, study.folder(last), f"fold {last}"):
        study.pool([fold, last])
    record.unlink()
    with raises_one_line(ValueError, f"fold {last} ", "--fold"):
        study.pool([fold, last])
    assert study.pool([fold])["never_held_out"], "a part of the folds is pooled, and says so"


def test_a_case_of_two_folds_is_not_pooled(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    both = [dict(train=["p0_a"], val=["p0_b", "p1_a"]), dict(train=["p0_b"], val=["p0_a", "p1_a"])]
    (data / "splits_final.json").write_text(json.dumps(both))
    study = CrossValidation(tmp_path / "study", read(write_config(tmp_path / "config.py", data)))
    for fold in (0, 1):
        study.run(fold, seeded(study.cfg), stream=io.StringIO())
    with raises_one_line(ValueError, "p1_a", "0 and 1"):
        study.pool([0, 1])
