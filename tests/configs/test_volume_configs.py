"""Tests that each config of volumes fits its plan and, shrunk, trains; twins differ in the network alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from config_files import VOLUMES as CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from volume_plans import small_plan

from vil_dense.mm.engine.resolve.config import resolve_amp
from vil_dense.mm.engine.resolve.volumes import resolve_plan

SPLITS = ("train", "val", "test")
PATCH = (40, 56, 40)
"""Patch of the networks that are compared at one budget, in voxels."""

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def read(path: Path) -> Config:
    init_default_scope("mmengine")
    cfg = Config.fromfile(path)
    if isinstance(cfg.plan, str):
        cfg.plan = small_plan("organ", patch_vox=(16, 16, 8))
    resolve_plan(cfg)
    resolve_amp(cfg, cuda=False)
    return cfg


def shrink(network: dict) -> None:
    """Makes the same parts with few channels and blocks, none of which stochastic depth may leave out of the step."""
    name = network["type"]
    if name.startswith("ViL"):
        network.update(drop_path=0.0)
    if name == "ViLUNet3D":
        levels = len(network.get("channels", (1, 1)))
        network.update(channels=(8,) * levels, depths=[min(n, 1) for n in network.get("depths", (0, 1))])
    elif name == "ViLUNETR3D":
        network.update(channels=(4,) * len(network["channels"]), dim=8, depth=4)
    elif name == "DynUNet":
        network.update(filters=[4] * len(network["filters"]))
    elif name == "UNETR":
        network.update(feature_size=4, hidden_size=24, mlp_dim=12, num_heads=2)
    elif name != "SwinUNETR":  # as small as MONAI has it
        network.update(init_filters=8)


def test_the_configs_are_found() -> None:
    assert {
        "vil-unet3d_2500_hippocampus",
        "vil_unet3d_sample",
        "vil-unet3d_40k_brats",
        "dynunet_2k_hippocampus-equal",
    } <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize(
    "path",
    [path for path in CONFIGS if path.stem.startswith("vil") and path.stem != "vil_unet3d_volumes"],
    ids=lambda path: path.stem,
)
def test_scales_of_vil_are_whole(path: Path) -> None:
    """Tests the plan's patch: nothing is padded in training."""
    cfg = read(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    strides = [[stride[axis] for stride in model.network.strides] for axis in range(3)]
    assert all(n % torch.tensor(s).prod().item() == 0 for n, s in zip(cfg.plan.patch_vox, strides, strict=True))
    assert max(model.network.tokens(cfg.plan.patch_vox).values()) >= 500, "too few tokens to tell blocks apart"


@each_config
def test_shrunk_takes_a_step(path: Path) -> None:
    cfg = read(path)
    # SwinUNETR normalises maps of stride 32, which in training need more than one place.
    cfg.plan.patch_vox = (64, 32, 32) if cfg.model.network.type == "SwinUNETR" else (16, 16, 16)
    shrink(cfg.model.network)
    model = MODELS.build({**cfg.model, "plan": cfg.plan})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    size = (2, len(cfg.plan.channels), *cfg.plan.patch_vox)
    batch = dict(
        image=torch.randn(size, generator=generator),
        label=torch.randint(len(cfg.plan.labels), (2, 1, *cfg.plan.patch_vox), generator=generator),
    )
    losses = model.train().train_step(batch, build_optim_wrapper(model, cfg.optim_wrapper))
    assert torch.isfinite(losses["loss"])
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    still = [name for name in still if "norm_cross_attn" not in name]  # which MONAI's UNETR makes and does not use
    assert not still, f"not trained: {still}"


def test_twins_differ_in_the_network_alone() -> None:
    twins = [path for path in CONFIGS if path.stem.endswith("-equal")]
    rest = []
    for path in twins:
        cfg = Config.fromfile(path).to_dict()
        network = cfg["model"].pop("network")
        if network["type"] in ("UNETR", "SwinUNETR"):  # which take multiples of 16 and 32 voxels
            for part in (cfg, cfg["model"], *(cfg[f"{split}_dataloader"]["dataset"] for split in SPLITS)):
                assert np.all(np.greater_equal(part["plan"]["patch_vox"], PATCH))
                part["plan"]["patch_vox"] = PATCH
            for split in ("val", "test"):
                cfg[f"{split}_evaluator"]["plan"]["patch_vox"] = PATCH
        rest.append(cfg)
    assert len(twins) == 10 and all(cfg == rest[0] for cfg in rest)
    blocks = {Config.fromfile(path).model.network.get("block", "vil") for path in twins if "unet3d" in path.stem}
    assert blocks == {"vil", "identity", "dwconv", "attention"}
