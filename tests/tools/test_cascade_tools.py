"""Tests a cascade through its command lines: training, prediction without its first stage, and what is refused."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from fold_runs import cross_validated, write_cases, write_config
from nifti_files import affine, write_nifti
from refusals import assert_error_line
from run_command import run_tool as run
from volume_plans import small_plan

from vil_dense.medical.inference.volume_predictor import predict
from vil_dense.mm.utils.safe_load import read_weights
from vil_dense.mm.volumes import load_predictor

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/vil_unet3d_volumes.py"
FOLD = 1
STEPS = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes data, a plan at full resolution, and a finished cross-validation at a coarse spacing."""
    root = tmp_path_factory.mktemp("cascade")
    data = write_cases(root / "data", 6, folds=3)
    cross_validated(root / "first", write_config(root / "coarse.py", data, (2.0, 2.0, 3.0)))
    network = dict(channels=[4, 8], depths=[0, 1], deep_supervision=1)
    plan = small_plan("organ_2", "organ_10", network=network, batch_size=2, spacing_mm=[1.0, 1.0, 2.0])
    (root / "plan.json").write_text(json.dumps(plan))
    return root


def options(made: Path, **changes: object) -> list[object]:
    values = dict(data_root=made / "data", plan=made / "plan.json", cascade=made / "first", fold=FOLD) | changes
    return ["--cfg-options", *(f"{key}={value}" for key, value in values.items()), *STEPS]


def test_a_run_is_whole_without_the_folder_of_its_first_stage(made: Path, tmp_path: Path) -> None:
    """Tests that its first network was not trained on the held-out cases, and that training leaves it as it was."""
    work, out = tmp_path / "second", tmp_path / "out"
    code, said, error = run("train", CONFIG, "--work-dir", work, *options(made))
    assert code == 0 and f"first stage: {made / 'first'}" in said + error, error
    own = read_weights(str(work / "iter_2.pth"))
    first = read_weights(str(made / f"first/fold_{FOLD}/iter_2.pth"))
    assert all(torch.equal(own[f"first_stage.0.{name}"], value) for name, value in first.items())
    masks = {path.name: read(path) for path in (made / "first/masks").iterdir()}
    (made / "first").rename(made / "elsewhere")
    try:
        code, said, error = run("volumes/predict", work, made / "data", "--fold", FOLD, "--out", out)
        assert code == 0 and "2 of 2 volumes segmented" in said and "trained on cases" not in error, error
        code, _, error = run("train", work / "vil_unet3d_volumes.py", "--work-dir", tmp_path / "no")
        assert code == 2
        assert_error_line(error, made / "first", "study.json")
    finally:
        (made / "elsewhere").rename(made / "first")
    predictor = load_predictor(work)
    (segmentor,) = predictor.configurations[0].networks
    written = sorted((out / "masks").iterdir())
    for path in written:
        image = nibabel.load(made / "data/images" / path.name)
        voxels = image.get_fdata(dtype=np.float32)[None]
        seen = dict(first_stage=masks[path.name])
        expected = predict([segmentor], voxels, image.affine, segmentor.plan, segmentor.windows, **seen)
        np.testing.assert_array_equal(read(path), expected)
        np.testing.assert_array_equal(predictor.predict(image).mask.dataobj, expected)
        np.testing.assert_array_equal(segmentor.segment("", voxels, image.affine, None)["prediction"], expected)
    assert len(written) == 2 and len(np.unique(expected)) > 1
    code, _, error = run("volumes/export_bundle", work, "--out", tmp_path / "bundle")
    assert code == 2
    assert_error_line(error, work, "cascade")


def test_what_is_refused(made: Path, tmp_path: Path) -> None:
    """Refuses in one line, before the first step: a folder that is none, other folds, and another model."""
    refused = [
        (CONFIG, options(made, cascade=made / "data"), (made / "data", "study.json")),
        (
            CONFIG,
            options(made, data_root=write_cases(tmp_path / "data", 6, folds=2)),
            (made / "first", "p0_b", "folds"),
        ),
        (CONFIG, options(made, load_from=made / "first/fold_0/iter_2.pth"), ("load_from", "model.init_cfg")),
        (CONFIG, options(made, patient=r"p\d", fold="all"), ("p0_a", "p0_b", "patient=")),
        (ROOT / "configs/pretrain/vil-unet3d_mae.py", options(made), ("MaskedVolumeModel", "cascade")),
    ]
    for config, words, names in refused:
        code, _, error = run("train", config, "--work-dir", tmp_path / "work", *words)
        assert code != 0
        assert_error_line(error, *names)


def write_tubes(root: Path) -> Path:
    """Writes volumes of 64 x 16 x 16 voxels with a tube of one intensity; its half near a bright end is class 1.

    A patch of 16 voxels sees the bright end from a quarter of the tube alone. Volumes lie in both directions, on some
    grids.
    """
    for number in range(6):
        rng = np.random.default_rng(number)
        label = np.zeros((64, 16, 16), np.uint8)
        (y, z), middle = rng.integers(4, 8, 2), rng.integers(26, 38)
        label[4:60, y : y + 5, z : z + 5] = 1
        label[middle:60, y : y + 5, z : z + 5] = 2
        image = 60.0 * (label > 0)
        image[:3] = 120
        image += rng.normal(0, 5, image.shape)
        way, place = 1 - 2 * (number % 2), affine(["RAS", "LPS", "oblique"][number % 3])
        write_nifti(root / f"images/c{number}.nii.gz", image[::way].astype(np.int16), place)
        write_nifti(root / f"labels/c{number}.nii.gz", label[::way], place)
    names = {f"c{number}" for number in range(6)}
    held_out = [{"c0", "c1", "c2"}, {"c3", "c4", "c5"}]
    splits = [dict(train=sorted(names - val), val=sorted(val)) for val in held_out]
    (root / "splits_final.json").write_text(json.dumps(splits))
    return root


@pytest.mark.slow
def test_the_first_stage_sees_what_a_patch_does_not(tmp_path: Path) -> None:
    """Trains with and without a first stage: alone a patch cannot tell the halves, the cascade does in new cases."""
    data, network = write_tubes(tmp_path / "data"), dict(channels=[8, 16, 32], depths=[0, 0, 2])
    plans = dict(coarse=dict(spacing_mm=[3.0, 2.0, 2.0], patch_vox=[24, 8, 8]), fine=dict(patch_vox=[16, 16, 16]))
    for name, changes in plans.items():
        plan = small_plan("near", "far", network=network, batch_size=2, **changes)
        (tmp_path / f"{name}.json").write_text(json.dumps(plan))
    steps = ["train_cfg.max_iters=250", "train_cfg.val_interval=250", "optim_wrapper.optimizer.lr=3e-3"]
    dice = {}
    for name, plan, part in (
        ("first", "coarse", []),
        ("second", "fine", [f"cascade={tmp_path / 'first'}"]),
        ("plain", "fine", []),
    ):
        work, folds = tmp_path / name, [] if name == "first" else ["--fold", 0]
        values = [f"data_root={data}", f"plan={tmp_path / plan}.json", *part, *steps]
        code, _, error = run("volumes/cross_validate", CONFIG, "--work-dir", work, *folds, "--cfg-options", *values)
        assert code == 0, error
        dice[name] = json.loads((work / "fold_0/held_out/metrics.json").read_text())["mean"]["dice"]
    assert dice["second"] > dice["plain"] + 0.1 and dice["second"] > dice["first"] - 0.05, dice
