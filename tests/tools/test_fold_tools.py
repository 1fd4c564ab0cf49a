"""Tests the tools of cross-validation through their command lines: pooling, the choice, and predictions with it."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fold_runs import NETWORK, cross_validated, write_cases, write_config
from page_checks import check_page
from refusals import assert_error_line
from run_command import run_tool as run

from vil_dense.medical.cross_validations import read_cross_validation, write_chosen
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.postprocess import postprocess

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes data, two configs of different networks and spacing, and a finished cross-validation of each."""
    root = tmp_path_factory.mktemp("folds")
    data = write_cases(root / "data", 4, folds=2)
    of_monai = dict(type="SegResNet", init_filters=8)
    for name, spacing, network in (("a", (1.0, 1.0, 2.0), NETWORK), ("b", (1.5, 1.5, 2.0), of_monai)):
        path = write_config(root / f"{name}.py", data, spacing, network=network)
        cross_validated(root / name, path, probabilities=True, uncertainty=True)
    return root


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def unscaled(path: Path) -> np.ndarray:
    return nibabel.load(path).dataobj.get_unscaled().astype(float)


def test_a_choice_is_predicted_with(made: Path, tmp_path: Path) -> None:
    best, image = tmp_path / "best.json", made / "data/images/p0_a.nii.gz"
    code, said, error = run("volumes/find_best", made / "a", made / "b", "--out", best)
    assert code == 0, error
    lines = said.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["a", "b", "a + b"] and "rule: " in said
    assert lines[-1] == f"choice: {best} (4 cases of 4 patients)"
    content = json.loads(best.read_text())
    assert content["postprocess"] == {} and content["report"]["chosen"] in (["a"], ["b"])
    shutil.copytree(made / "b", tmp_path / "other/a")
    namesakes = made / "a", tmp_path / "other/a"
    code, said, error = run("volumes/find_best", *namesakes, "--out", tmp_path / "namesakes.json")
    assert code == 0, error
    firsts = [line.partition(":")[0] for line in said.splitlines()[:2]]
    assert len({*firsts}) == 2 and all(name.endswith("/a") for name in firsts)
    code, said, error = run("volumes/find_best", made / "a", made / "a", "--out", tmp_path / "twice.json")
    assert_error_line(error, made / "a", "once")
    assert code == 2 and not (tmp_path / "twice.json").exists()
    # a pair with steps, as a larger run may choose it
    pair = tmp_path / "pair.json"
    write_chosen(pair, [read_cross_validation(made / name) for name in "ab"], dict(organ_2=dict(largest=True)), {})
    code, said, error = run("volumes/predict", "--best", pair, image, "--out", tmp_path / "pair", "--probabilities")
    assert code == 0 and "1 of 1 volume segmented" in said, error
    stored = unscaled(tmp_path / "pair/probabilities/p0_a.nii.gz")
    own = []
    for name in "ab":
        code, said, error = run("volumes/predict", made / name, image, "--out", tmp_path / name, "--probabilities")
        assert code == 0, error
        own.append(unscaled(tmp_path / name / "probabilities/p0_a.nii.gz"))
    np.testing.assert_allclose(stored, np.mean(own, axis=0), atol=0.5)
    plain = ["--out", tmp_path / "plain", "--probabilities"]  # the same networks as a list, without steps
    code, said, error = run("volumes/predict", made / "a", made / "b", image, *plain)
    assert code == 0, error
    np.testing.assert_array_equal(unscaled(tmp_path / "plain/probabilities/p0_a.nii.gz"), stored)
    expected = stored.argmax(-1).astype(np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "plain/masks/p0_a.nii.gz"), expected)
    known = LabelMap.of(dict(labels=dict(background=0, organ_2=1, organ_10=2)))
    postprocess(expected, dict(organ_2=dict(largest=True)), known, 1.0)
    np.testing.assert_array_equal(read(tmp_path / "pair/masks/p0_a.nii.gz"), expected)
    settings = json.loads((tmp_path / "pair/settings.json").read_text())
    assert len(settings["checkpoints"]) == 4 and settings["steps"] == dict(organ_2=dict(largest=True))


def test_each_fold_has_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that folds do not share their initial weights: one unlucky draw would decide all of them."""
    data = write_cases(tmp_path / "data", 6, folds=2)
    given: list[list[str]] = []

    def train(script: Path, config: str, folder: Path, options: list[str]) -> None:
        given.append(options)
        raise ValueError("no training")

    monkeypatch.setattr("vil_dense.mm.cli.grids.train", train)
    command = ["volumes/cross_validate", write_config(tmp_path / "a.py", data), "--work-dir", tmp_path / "out"]
    for fold in (0, 1):
        run(*command, "--fold", fold, "--cfg-options", "randomness.seed=5")
    assert given == [[f"randomness.seed={5 + fold}", f"fold={fold}"] for fold in (0, 1)]


def test_folds_of_a_folder_and_subsets(made: Path, tmp_path: Path) -> None:
    """Tests that the masks of a fold's own network are those of the cross-validation, and score as they did there."""
    out, data = tmp_path / "out", made / "data"
    fold = next(path for path in sorted((made / "a").glob("fold_*"))).name.removeprefix("fold_")
    code, said, error = run("volumes/predict", made / f"a/fold_{fold}", data, "--fold", fold, "--out", out)
    assert code == 0 and "trained on cases of fold" not in (error if fold == "0" else ""), error
    for path in (out / "masks").iterdir():
        np.testing.assert_array_equal(read(path), read(made / "a/masks" / path.name))
    choice = ["--fold", fold, "--out", tmp_path / "scores"]
    code, said, error = run("volumes/evaluate", made / "a.py", made / "a/masks", data, *choice)
    assert code == 0, error
    summary = json.loads((made / "a/summary.json").read_text())
    scored = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert scored["mean"]["dice"] == pytest.approx(summary["by_fold"][fold]["dice"])
    code, _, error = run("volumes/evaluate", made / "a.py", out / "masks", data / "labels", "--out", tmp_path / "no")
    assert code == 2
    assert_error_line(error, "--subset")
    elsewhere = ["--out", tmp_path / "no", "--cfg-options", r"patient='x(\d)'"]
    code, _, error = run("volumes/evaluate", made / "a.py", made / "a/masks", data / "labels", *elsewhere)
    assert code != 0 and not (tmp_path / "no").exists()
    assert_error_line(error, "p0_a", "--cfg-options patient=")
    more = ["--subset", "--out", tmp_path / "part"]
    code, said, error = run("volumes/evaluate", made / "a.py", out / "masks", data / "labels", *more)
    masks = len(list((out / "masks").iterdir()))
    assert code == 0 and f"{4 - masks} of 4 labels have no mask" in error and f"{masks} cases scored" in said
    # over all folds as pairs, as a cross-validation or fold by fold
    code, said, error = run("volumes/compare", made / "a", made / "b")
    assert code == 0 and "over 4 cases, difference" in said, error
    folds = [f"{made / name}/fold_{number}/held_out/metrics.csv" for name in "ab" for number in (0, 1)]
    code, again, error = run("volumes/compare", ",".join(folds[:2]), ",".join(folds[2:]))
    assert code == 0, error
    rows, same = ([row.partition("  ")[2] for row in text.splitlines()] for text in (said, again))
    assert rows == same
    code, _, error = run("volumes/compare", folds[0], folds[1])
    assert code == 2
    assert_error_line(error, "A/fold_0,A/fold_1")


def test_pooling_through_the_command_line(made: Path) -> None:
    where = ["--work-dir", made / "a", "--probabilities"]
    code, said, error = run("volumes/cross_validate", made / "a.py", *where, "--pool")
    assert code == 0 and "4 cases of 2 folds pooled" in said and "draws of 4 cases" in said, error
    lines = said.splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("intervals:"))
    assert [line.split()[0] for line in lines[end - 3 : end]] == ["organ_2", "organ_10", "mean"], said
    page = check_page(made / "a/report.html")
    assert len(page.all("img")) == 4 and "Cross-validation of a.py, folds 0, 1" in page.text and "entropy" in page.text
    assert len(list((made / "a").glob("fold_*/held_out/entropy/*.nii.gz"))) == 4
    code, said, error = run("volumes/cross_validate", made / "a.py", *where)  # all of it is finished
    assert code == 0 and said.count("already finished") == 2


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("cross_validate {made}/a.py --work-dir {out} --folds 0 9", ("fold 9",)),
        ("cross_validate {made}/a.py --work-dir {out} --pool", ("not finished", "--fold")),
        ("cross_validate {made}/a.py --work-dir {out} --pool --fold 0", ("--pool", "--fold")),
        ("cross_validate {made}/a.py --work-dir {out} --cfg-options fold=1", ("fold",)),
        ("cross_validate {made}/b.py --work-dir {made}/a --probabilities", ("{made}/a", "config", "--work-dir")),
        ("find_best {made}/data --out {out}/best.json", ("{made}/data", "study.json")),
        ("predict --best {made}/none.json {made}/data --out {out}", ("none.json", "find_best")),
        ("predict --best {made}/a/study.json {made}/data --out {out}", ("study.json", "find_best")),
        ("predict {made}/a {made}/data --out {out} --cfg-options fold=1", ("--cfg-options",)),
        ("predict {made}/a.py {made}/a {made}/data --out {out}", ("{made}/a ", "checkpoint")),
        ("predict {made}/data --out {out}", ("CONFIG CHECKPOINT INPUT", "--best")),
        ("predict {made}/a.py --best {made}/b.json {made}/data --out {out}", ("--best",)),
    ],
)
def test_what_is_refused(arguments: str, names: tuple[str, ...], made: Path, tmp_path: Path) -> None:
    tool, *rest = arguments.format(made=made, out=tmp_path / "out").split()
    code, _, error = run(f"volumes/{tool}", *rest)
    assert code in (1, 2)
    assert_error_line(error, *(name.format(made=made) for name in names))


@pytest.mark.slow
def test_from_data_to_a_choice(tmp_path: Path) -> None:
    """Trains in processes of their own, first a task of an array job and then all others, and the choice."""
    data = write_cases(tmp_path / "data", 4, folds=2)
    config = write_config(tmp_path / "small.py", data)
    text = config.read_text().replace("volumes_runtime.py", 'schedules/adamw_volumes.py", "{}/volumes_runtime.py')
    config.write_text(text.replace("{}", str(ROOT / "configs/_base_")) + "val_evaluator = dict(plan=plan)\n")
    options = ["train_cfg.max_iters=4", "train_cfg.val_interval=4", "default_hooks.checkpoint.interval=2"]
    command = ["volumes/cross_validate", config, "--work-dir", tmp_path / "cv", "--cfg-options", *options]
    code, said, error = run(*command, "--fold", "1")
    assert code == 0 and not (tmp_path / "cv/summary.json").exists(), error
    before = (tmp_path / "cv/fold_1/iter_4.pth").stat().st_mtime_ns
    code, said, error = run(*command)
    assert code == 0 and "4 cases of 2 folds pooled" in said, error
    assert (tmp_path / "cv/fold_1/iter_4.pth").stat().st_mtime_ns == before, "what is finished is not trained again"
    code, said, error = run("volumes/find_best", tmp_path / "cv", "--out", tmp_path / "best.json")
    assert code == 0, error
    code, said, error = run(
        "volumes/predict", "--best", tmp_path / "best.json", data / "images", "--out", tmp_path / "o"
    )
    assert code == 0 and "4 of 4 volumes segmented" in said, error
    code, said, error = run("volumes/export_bundle", tmp_path / "cv/fold_0", "--out", tmp_path / "bundle")
    assert code == 0, error
