"""Tests the command lines of predict and evaluate; what is wrong is said in one sentence."""

import csv
import json
import os
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from dicom_files import write_series
from nifti_files import affine, write_nifti
from page_checks import check_page
from refusals import assert_error_line
from run_command import run_tool as run
from volume_segmentors import write_segmentor, write_weights

from vil_dense.cost.memory import GIB
from vil_dense.medical.inference.ensemble import Configuration

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("VIL_DENSE_DATA", ROOT / "../shared/data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = write_segmentor(tmp_path_factory.mktemp("config"))
    return path, write_weights(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        voxels = np.random.default_rng(seed).integers(0, 99, (17, 12, 9)).astype(np.int16)
        write_nifti(tmp_path / f"images/{name}.nii.gz", voxels, affine("LAS", (0.9, 1.1, 2.0)))
    return tmp_path / "images"


def test_a_warning_for_each_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Predicts a large volume on a GPU: there the network and, where they fit, the scores; the rest on the CPU."""
    from vil_dense.medical.inference import volume_memory

    expected = volume_memory.Estimate(0, 1, 1, 1, windows=GIB, gpu=3 * GIB)
    monkeypatch.setattr(volume_memory, "estimate", lambda *inputs: expected)
    free = dict(cpu=2 * GIB, cuda=2 * GIB)
    monkeypatch.setattr("vil_dense.cost.memory.free_memory", free.get)
    say = runpy.run_path(str(ROOT / "tools/volumes/predict.py"))["describe_survey"]
    grid = SimpleNamespace(shape=(9, 9, 9))
    grids = dict(a=SimpleNamespace(warning=""))
    survey = SimpleNamespace(todo=[1], cases=[1], largest=lambda plan: grid, windows=dict(a=1), grids=grids)
    say(survey, [Configuration([], {}, None)], "cuda")
    said = capsys.readouterr()
    assert "voxels, 1 window; memory: about 1.00 GiB" in said.out
    assert said.err == "warning: 2.0 GiB are free on the GPU\n"
    assert said.out.endswith("for Python and its libraries; about 3.00 GiB beside the weights on the GPU\n")


def test_from_images_to_masks_to_scores(trained: tuple[Path, Path], images: Path, tmp_path: Path) -> None:
    path, checkpoint = trained
    second = write_weights(path, seed=1)
    out, options = tmp_path / "out", ["--mirror", "--largest", "--probabilities", "--uncertainty"]
    code, said, errors = run("volumes/predict", path, checkpoint, second, images, "--out", out, *options)
    assert code == 0 and said.splitlines()[-1] == f"2 of 2 volumes segmented in {out}"
    assert re.search(r"^time: about [\d.e+-]+ CPU s for the windows of all volumes$", said, re.MULTILINE)
    assert "memory: about " in said and "peak memory: " in said and errors.endswith(", ETA 0:00:00\n")
    mask, image = nibabel.load(out / "masks/a.nii.gz"), nibabel.load(images / "a.nii.gz")
    assert mask.shape == image.shape and (mask.affine == image.affine).all()
    settings = json.loads((out / "settings.json").read_text())
    assert len(set(settings["checkpoints"])) == 2 and settings["mirror"] is True and settings["overlap"] == 0.5
    for name in ("entropy", "mutual_information"):
        values = nibabel.load(out / f"{name}/a.nii.gz").get_fdata()
        assert values.shape == image.shape and 0 <= values.min() < values.max() <= 1
    assert len(check_page(out / "report.html").all("img")) == 2
    code, said, _ = run("volumes/predict", path, checkpoint, second, images, "--out", out, *options)
    assert code == 0 and "2 of 2 cases are already finished and are skipped" in said

    code, said, _ = run("volumes/evaluate", path, out / "masks", out / "masks", "--out", tmp_path / "scores")
    assert code == 0 and "mean: Dice 1, HD95 0 mm, NSD 1" in said
    (tmp_path / "of_a_bundle").mkdir()
    for mask in (out / "masks").iterdir():
        shutil.copy(mask, tmp_path / "of_a_bundle" / mask.name.replace(".", "_seg.", 1))
    code, again, _ = run("volumes/evaluate", path, tmp_path / "of_a_bundle", out / "masks", "--out", tmp_path / "seg")
    assert code == 0 and "mean: Dice 1, HD95 0 mm, NSD 1" in again, "as MONAI names masks"
    with (tmp_path / "scores/metrics.csv").open() as file:
        assert [(row["case"], row["structure"], row["dice"]) for row in csv.DictReader(file)] == [
            ("a", "organ", "1"),
            ("b", "organ", "1"),
        ]
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["mean"]["dice"] == 1
    page = check_page(tmp_path / "scores/report.html")
    assert len(page.all("img")) == 2 and "mutual information" in page.text and "volumes/evaluate" in page.text
    code, said, _ = run(
        "volumes/evaluate", path, out / "masks", out / "masks", "--out", tmp_path / "area", "--nsd", "area"
    )
    assert code == 0 and "NSD: fraction of the area" in said
    assert json.loads((tmp_path / "area/metrics.json").read_text())["nsd"] == "area"
    for options, tolerance_mm in (("--cfg-options test_evaluator.tolerance_mm=2.5", 2.5), ("--tolerance-mm 3", 3.0)):
        where = tmp_path / f"scores_{tolerance_mm}"
        code, _, _ = run("volumes/evaluate", path, out / "masks", out / "masks", "--out", where, *options.split())
        assert code == 0 and json.loads((where / "metrics.json").read_text())["nsd_tolerance_mm"] == tolerance_mm


def test_a_data_list(trained: tuple[Path, Path], images: Path, tmp_path: Path) -> None:
    """Predicts one fold of it and scores it against its labels; no warning names the images of other folds."""
    truth = (np.random.default_rng(0).random((17, 12, 9)) < 0.5).astype(np.uint8)
    for name in "ab":
        write_nifti(tmp_path / f"labels/{name}.nii.gz", truth, affine("LAS", (0.9, 1.1, 2.0)))
    entries = [
        dict(image=f"images/{name}.nii.gz", label=f"labels/{name}.nii.gz", fold=fold) for fold, name in enumerate("ab")
    ]
    listed = tmp_path / "dataset.json"
    listed.write_text(json.dumps(dict(training=entries)))
    choice = ["--section", "training", "--fold", "1"]
    code, said, errors = run("volumes/predict", *trained, tmp_path, "--out", tmp_path / "out", *choice)
    assert code == 0 and "1 of 1 volume segmented" in said and "warning" not in errors
    masks = tmp_path / "out/masks"
    code, said, _ = run("volumes/evaluate", trained[0], masks, listed, "--out", tmp_path / "scores", *choice)
    assert code == 0 and "1 cases scored" in said
    code, _, error = run("volumes/evaluate", trained[0], masks, listed, "--out", tmp_path / "more")
    assert code == 2
    assert_error_line(error, tmp_path / "labels/a.nii.gz", masks)
    assert not (tmp_path / "more").exists()


def test_dicom_frames_and_chosen_probabilities(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Predicts one of two series of a folder, with a DICOM segmentation; a series in time; files of channels."""
    pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")
    pytest.importorskip("highdicom", reason="DICOM segmentations are written by highdicom")
    voxels = np.random.default_rng(0).integers(0, 99, (17, 12, 9)).astype(np.int16)
    for uid in ("1.2.3.4", "1.2.3.5"):
        write_series(tmp_path / "ct", voxels, affine("LPS", (0.9, 1.1, 2.0)), uid=uid)
    code, _, error = run("volumes/predict", *trained, tmp_path / "ct", "--out", tmp_path / "out")
    assert code == 2
    assert_error_line(error, "--series", "1.2.3.4", "1.2.3.5")
    chosen = ["--series", "1.2.3.5", "--dicom-seg", "--rtstruct", "--probabilities", "organ", "--probability-bits", 8]
    code, said, error = run("volumes/predict", *trained, tmp_path / "ct", "--out", tmp_path / "out", *chosen)
    assert code == 0 and "1 of 1 volume segmented" in said, error
    assert (tmp_path / "out/rtstruct/ct.dcm").is_file()
    assert (tmp_path / "out/dicom_seg/ct.dcm").is_file() and (tmp_path / "out/masks/ct.nii.gz").is_file()
    shares = nibabel.load(tmp_path / "out/probabilities/ct.nii.gz")
    assert shares.shape == (17, 12, 9) and shares.get_data_dtype() == np.uint8

    four = write_nifti(tmp_path / "four.nii", np.stack([voxels, voxels], axis=-1))
    code, said, _ = run("volumes/predict", *trained, four, "--out", tmp_path / "frames", "--frame", "all")
    assert code == 0 and "2 of 2 volumes segmented" in said
    masks = tmp_path / "frames/masks"
    found = runpy.run_path(str(ROOT / "tools/volumes/evaluate.py"))["pairs"](masks, masks, None, None)
    assert [(pair.image, pair.frame) for pair in found] == [(four, 0), (four, 1)]
    label = next(masks.glob("*.nii.gz"))
    write_nifti(tmp_path / "labels" / label.name, np.zeros((17, 12, 9), np.uint8))
    *_, error = run("volumes/evaluate", trained[0], masks, tmp_path / "labels", "--out", tmp_path / "one")
    assert "warning: 1 of 2 masks are not scored, without a label here" in error

    for name in ("x_0000", "x_0001", "y_0000", "y_0001"):
        write_nifti(tmp_path / f"channels/{name}.nii", voxels)
    code, _, error = run("volumes/predict", *trained, tmp_path / "channels", "--out", tmp_path / "none")
    assert code == 2 and not (tmp_path / "none").exists()
    assert_error_line(error, "2 names", "x_0000", "1 channel")


REAL = {
    "spleen": ("sub-spleen2_ct.nii.gz", "sub-spleen2_ct_seg-manual.nii.gz", "ct", (4.0, 4.0, 5.0)),
    "cord": ("sct_t1/t1w.nii.gz", "sct_t1/t1w_seg-manual.nii.gz", "zscore", (3.0, 3.0, 3.0)),
    "grey matter": ("sct_t2s/t2s.nii.gz", "sct_t2s/t2s_gmseg_manual.nii.gz", "zscore", (1.0, 1.0, 7.5)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::UserWarning:monai")
def test_real_volumes(name: str, tmp_path: Path) -> None:
    """Tests the way from two folders to a plan, a training of two steps, masks, scores and a bundle."""
    image, label, rule, spacing = REAL[name]
    image, label = DATA / "volumes" / image, DATA / "volumes" / label
    if not image.is_file():
        pytest.skip(f"no real volumes: {image} is missing (VIL_DENSE_DATA)")
    for folder, source in dict(images=image, labels=label).items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a.nii.gz").symlink_to(source)
    plan, work = tmp_path / "plan.json", tmp_path / "work"
    small = ["network.channels=(8,8)", "network.depths=(0,1)", "network.deep_supervision=1", "batch_size=1"]
    chosen = [f"spacing_mm={spacing}".replace(" ", ""), "patch_vox=(32,32,16)", *small]
    code, said, error = run("volumes/plan", tmp_path / "data", "--out", plan, "--set", *chosen)
    assert code == 0 and said.splitlines()[-1] == f"plan: {plan}", error
    assert json.loads(plan.read_text())["plan"]["intensity"][0]["rule"] == rule
    values = [f"data_root={tmp_path / 'data'}", f"plan={plan}", "fold=None", "model.overlap=0.0"]
    values += ["label_check.allow_overlap=True"]  # one case to train and to validate on
    values += ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.logger.interval=1"]
    config = "configs/vil_unet3d_volumes.py"
    code, said, error = run("train", config, "--work-dir", work, "--cfg-options", *values)
    assert code == 0 and "result: Dice " in said, error
    plan.unlink()  # the run has it
    own = work / "vil_unet3d_volumes.py"
    code, _, error = run("volumes/predict", own, work / "iter_2.pth", image, "--out", tmp_path / "out")
    assert code == 0, error
    (mask,) = (tmp_path / "out/masks").iterdir()
    code, said, error = run("volumes/evaluate", own, mask, label, "--out", tmp_path / "scores")
    assert code == 0 and "1 cases scored" in said, error
    source, written = nibabel.load(image), nibabel.load(mask)
    assert written.shape == source.shape and (written.affine == source.affine).all()
    code, said, _ = run("volumes/evaluate", own, label, label, "--out", tmp_path / "truth")
    assert code == 0 and "mean: Dice 1, HD95 0 mm, NSD 1" in said
    code, said, error = run("volumes/export_bundle", work, "--out", tmp_path / "bundle")
    assert code == 0 and "bundle written to " in said, error


def test_a_missing_channel(images: Path, tmp_path: Path) -> None:
    path = write_segmentor(tmp_path, channels=2)
    code, _, error = run("volumes/predict", path, write_weights(path), images / "a.nii.gz", "--out", tmp_path / "out")
    assert code == 1
    assert_error_line(error, "1 of 1", images / "a.nii.gz", "1 of 2 channels")
    assert not (tmp_path / "out").exists()


def test_labels_on_another_grid_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 2, (20, 20, 20)).astype(np.float32)
    mask = write_nifti(tmp_path / "mask/a.nii.gz", voxels)
    path = write_nifti(tmp_path / "label/a.nii.gz", voxels, affine("LPS"))
    code, _, error = run("volumes/evaluate", trained[0], mask.parent, path.parent, "--out", tmp_path / "scores")
    assert code == 2
    assert_error_line(error, path, mask, "38 mm")
    assert not (tmp_path / "scores").exists()
