"""Tests the configs of public sets on made files in their layouts: found, checked, a patch drawn, a case held out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from nifti_files import affine, write_nifti

from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.engine.resolve.volumes import resolve_plan

ROOT = Path(__file__).parents[3]


def write_pair(image: Path, label: Path, plan: dict, seed: int, channels: int = 1) -> None:
    """Writes a case on a grid that is not the plan's, with every class of the plan."""
    rng = np.random.default_rng(seed)
    shape = (14 + seed % 3, 13, 12)
    classes = rng.permutation(np.resize(np.arange(len(plan["labels"])), shape).ravel()).reshape(shape)
    voxels = rng.integers(1, 200, (*shape, channels) if channels > 1 else shape).astype(np.int16)
    place = affine("LPS", (1.2, 1.2, 4.0))
    write_nifti(image, voxels, place)
    write_nifti(label, classes.astype(np.uint8), place)


def decathlon(root: Path, plan: dict, names: str, listed: str = "dataset.json", validation: int = 0) -> None:
    """Writes MSD, AMOS and, with `validation`, MONAI's list for BTCV: `training` and `validation` in a JSON."""
    entries = []
    for seed in range(6):
        image, label = (f"./{folder}/{names.format(seed + 1)}.nii.gz" for folder in ("imagesTr", "labelsTr"))
        write_pair(root / image, root / label, plan, seed, len(plan["channels"]))
        entries.append(dict(image=image, label=label))
    labels = {str(value): name for name, value in plan["labels"].items()}
    content = dict(modality={str(n): name for n, name in enumerate(plan["channels"])}, labels=labels)
    split = len(entries) - validation
    content |= dict(training=entries[:split], **(dict(validation=entries[split:]) if validation else {}))
    (root / listed).write_text(json.dumps(content))


def btcv(root: Path, plan: dict) -> None:
    decathlon(root, plan, "img{:04d}", "dataset_0.json", validation=2)


def amos(root: Path, plan: dict) -> None:
    decathlon(root, plan, "amos_{:04d}", validation=2)


def msd(root: Path, plan: dict) -> None:
    decathlon(root, plan, "case_{:03d}")


def acdc(root: Path, plan: dict) -> None:
    """Writes nnU-Net's raw data: two phases of each patient."""
    for seed in range(12):
        name = f"patient{seed // 2 + 1:03d}_frame{1 + 11 * (seed % 2):02d}"
        write_pair(root / f"imagesTr/{name}_0000.nii.gz", root / f"labelsTr/{name}.nii.gz", plan, seed)
    content = dict(channel_names={"0": "cineMRI"}, labels=dict(plan["labels"]), numTraining=12, file_ending=".nii.gz")
    (root / "dataset.json").write_text(json.dumps(content))


LAYOUTS: dict[str, Callable[[Path, dict], None]] = dict(
    spleen=msd, hippocampus=msd, brats=msd, btcv=btcv, amos=amos, acdc=acdc
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layout(name: str, tmp_path: Path) -> None:
    init_default_scope("mmengine")
    (path,) = (ROOT / "configs/volumes").glob(f"vil-unet3d_*_{name}.py")
    cfg = Config.fromfile(path)
    cfg.plan.patch_vox = (8, 8, 8)
    (tmp_path / "data").mkdir()
    LAYOUTS[name](tmp_path / "data", cfg.plan)
    cfg.data_root = str(tmp_path / "data")
    resolve_plan(cfg)
    train, held_out = (DATASETS.build(cfg[f"{split}_dataloader"].dataset) for split in ("train", "val"))
    cases = [source["name"] for source in (*train.cases.sources, *held_out.cases.sources)]
    assert len(cases) == len({*cases}) == (12 if name == "acdc" else 6) and held_out.cases.sources
    patch, whole = train[SampleKey(0)], held_out[0]
    assert patch["image"].shape == (len(cfg.plan.channels), 8, 8, 8) and torch.isfinite(patch["image"]).all()
    assert np.unique(whole["label"]).tolist() == list(range(len(cfg.plan.labels)))
    if name == "acdc":
        patients = [{source["name"][:10] for source in part.cases.sources} for part in (train, held_out)]
        assert not patients[0] & patients[1], "a patient is on both sides"
