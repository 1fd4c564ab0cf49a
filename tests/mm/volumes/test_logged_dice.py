"""Tests that the Dice of a run's log is that of the masks which its checkpoint delivers, case by case."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import affine, write_nifti
from run_command import run_command

from vil_dense.synthetic.volumes import make_case

SCANS = [("RAS", (4, 4, 5), 0), ("LPS", (3, 4, 9), 1), ("PSR", (5, 3, 8), 0), ("oblique", (4, 4, 12), 0)]
"""Axes, spacing in mm and fold of a case; the plan asks for voxels of 4 x 4 x 5 mm."""
VALUES = ("dice", "hd95_mm", "nsd")
OPTIONS = """
model.network.channels=(4,8) model.network.depths=(0,1) model.network.deep_supervision=1
model.overlap=0.25 model.window_batch=3 plan.patch_vox=(16,16,8) plan.spacing_mm=(4.0,4.0,5.0)
optim_wrapper.optimizer.lr=0.02 param_scheduler=[]
train_cfg.max_iters=60 train_cfg.val_interval=30 default_hooks.checkpoint.interval=30
"""
"""A tiny network, windows that are not the default ones, and enough steps to find the larger organs."""


def write_case(root: Path, name: str, seed: int, orientation: str, spacing_mm: tuple[float, ...]) -> dict[str, str]:
    """Writes a made abdomen with axes to `orientation`, by nearest neighbours; returns its paths in `root`."""
    place = affine(orientation, spacing_mm)
    arrays = [nibabel.Nifti1Image(array, np.diag([2, 2, 5, 1])) for array in make_case(seed)]
    axes = nibabel.io_orientation(place)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(arrays[0].affine), axes)
    entry = {}
    for key, image in zip(("image", "label"), arrays, strict=True):
        voxels = np.asarray(image.as_reoriented(turn).dataobj)
        for axis, own in enumerate(np.take((2, 2, 5), np.argsort(turn[:, 0]))):
            count = int(voxels.shape[axis] * own / spacing_mm[axis])
            voxels = np.take(voxels, (np.arange(count) * spacing_mm[axis] / own).astype(int), axis)
        entry[key] = f"{key}s/{name}.nii.gz"
        write_nifti(root / entry[key], voxels, place)
    return entry


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Writes a Decathlon list of cases on grids of their own, of which only the first is the plan's."""
    entries = []
    for seed, (orientation, spacing_mm, fold) in enumerate([*SCANS, ("LAS", (4, 4, 5), 1)]):
        entries.append(write_case(tmp_path / "scans", f"scan_{seed}", seed, orientation, spacing_mm) | dict(fold=fold))
    (tmp_path / "scans/dataset.json").write_text(json.dumps(dict(training=entries)))
    return tmp_path / "scans"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def last_scalars(work: Path) -> dict[str, float]:
    """Reads what the logger wrote of the last validation."""
    (path,) = work.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "Dice" in line][-1]


def test_the_logged_dice_is_that_of_the_masks_on_disk(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, out, scored = (tmp_path / name for name in ("work", "out", "scored"))
    options = " ".join(OPTIONS.split())
    train = f"train configs/vil_unet3d_sample.py --work-dir {work} --cfg-options data_root={scans} {options}"
    held_out = f"{scans}/dataset.json --section training --fold 0"
    assert run_command(train, monkeypatch) == 0
    own = work / "vil_unet3d_sample.py"
    assert run_command(f"volumes/predict {own} {work}/iter_60.pth {held_out} --out {out}", monkeypatch) == 0
    assert run_command(f"volumes/evaluate {own} {out}/masks {held_out} --out {scored}", monkeypatch) == 0
    assert run_command(f"test {own} {work}/iter_60.pth --work-dir {tmp_path / 'test'}", monkeypatch) == 0

    logged, delivered = rows(work / "validation"), rows(scored)
    assert len(delivered) == 3 * 4 and any(float(row["dice"] or 0) > 0.3 for row in delivered)
    assert logged == delivered
    assert rows(next((tmp_path / "test").rglob("metrics.csv")).parent) == delivered
    validated, evaluated = (
        json.loads((folder / "metrics.json").read_text()) for folder in (work / "validation", scored)
    )
    means = {name: value for name, value in evaluated["mean"].items() if name in VALUES}  # and their intervals
    assert validated["mean"] == pytest.approx(means, abs=1e-6)
    scalars = last_scalars(work)
    for name, value in zip(("Dice", "HD95", "NSD"), VALUES, strict=True):
        assert scalars[name] == pytest.approx(evaluated["mean"][value], abs=1e-6)
    for structure, row in evaluated["structures"].items():
        assert scalars[f"Dice_{structure}"] == pytest.approx(row["dice"], abs=1e-6)
