"""Makes small data sets and cross-validations whose trainings are left out: each fold gets weights from a seed."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from nifti_files import affine, write_nifti

from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.mm.volumes import VolumeSegmentor
from vil_dense.mm.volumes.cross_validation import CrossValidation, Train

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = ["{base}/datasets/volumes.py", "{base}/volumes_runtime.py"]
data_root = "{data}"
patient = {patient}
plan = dict(
    channels=["MR"], labels=dict(background=0, organ_2=1, organ_10=2), orientation="RAS",
    spacing_mm={spacing}, patch_vox=(8, 8, 8), intensity=[dict(rule="zscore")],
)
shared = dict(data_root=data_root, plan=plan)
model = dict(type="VolumeSegmentor", plan=plan, network={network}, overlap=0.0)
test_evaluator = dict(plan=plan)
"""
NETWORK = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1), deep_supervision=1)


def write_cases(root: Path, count: int = 6, folds: int = 0) -> Path:
    """Writes `images` and `labels` of `count` cases `p0_a`, `p0_b`, `p1_a`, ...: two organs on noise.

    With `folds` the cases are dealt to so many folds in turn, by a splits_final.json.
    """
    names = [f"p{seed // 2}_{'ab'[seed % 2]}" for seed in range(count)]
    for seed in range(count):
        rng = np.random.default_rng(seed)
        label = np.zeros((9, 8, 8), np.uint8)
        label[1:4, 2:6, 2:6], label[5:8, 3:6, 3:6] = 1, 2
        voxels = (60 * label + rng.integers(0, 30, label.shape)).astype(np.int16)
        place = affine("LPS", (1.0, 1.0, 2.0))
        write_nifti(root / f"images/{names[seed]}.nii.gz", voxels, place)
        write_nifti(root / f"labels/{names[seed]}.nii.gz", label, place)
    if folds:
        held_out = [names[fold::folds] for fold in range(folds)]
        splits = [dict(train=sorted({*names} - {*val}), val=val) for val in held_out]
        (root / "splits_final.json").write_text(json.dumps(splits))
    return root


def write_config(
    path: Path,
    data: Path,
    spacing: tuple = (1.0, 1.0, 2.0),
    patient: str | None = None,
    network: dict = NETWORK,
) -> Path:
    """Writes a config of a small network for the cases of `write_cases`."""
    base = ROOT / "configs/_base_"
    path.write_text(CONFIG.format(base=base, data=data, spacing=spacing, patient=repr(patient), network=network))
    return path


def read(path: Path) -> Config:
    """Reads a config and its plan."""
    cfg = Config.fromfile(path)
    resolve_plan(cfg)
    return cfg


def seeded(cfg: Config, trained: list[int] | None = None) -> Train:
    """Returns a training that writes initial weights and the config, and appends the fold to `trained`."""

    def train(fold: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(fold)
        model = VolumeSegmentor(**{key: value for key, value in cfg.model.items() if key != "type"})
        torch.save(dict(state_dict=model.state_dict()), folder / "iter_2.pth")
        (folder / "last_checkpoint").write_text(str(folder / "iter_2.pth"))
        cfg.dump(folder / "small.py")
        if trained is not None:
            trained.append(fold)

    return train


def cross_validated(root: Path, path: Path, **options: object) -> CrossValidation:
    """Runs a cross-validation of a config with `seeded` trainings, and pools it."""
    validation = CrossValidation(root, read(path), **options)
    for fold in validation.data.splits:
        validation.run(fold, seeded(validation.cfg), stream=io.StringIO())
    validation.pool([*validation.data.splits])
    return validation
