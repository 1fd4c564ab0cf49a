"""Tests learning rate and weight decay of every parameter of ViL-T + UperNet, written out by hand."""

import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from refusals import raises_one_line

import vil_dense.mm  # noqa: F401

LR, DECAY, RATE = 5e-4, 0.05, 0.65
UPERNET = dict(
    type="EncoderDecoder",
    backbone=dict(type="ViL", variant="vil2-tiny", out_indices=(7, 11, 15, 23)),
    neck=dict(type="Feature2Pyramid", embed_dim=192, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type="BN")),
    decode_head=dict(
        type="UPerHead",
        in_channels=[192] * 4,
        in_index=[0, 1, 2, 3],
        channels=192,
        num_classes=150,
        norm_cfg=dict(type="BN"),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=192,
        in_index=2,
        channels=192,
        num_convs=1,
        num_classes=150,
        norm_cfg=dict(type="BN"),
    ),
)
# What follows a block's number: does weight decay act on it?
IN_BLOCK = {
    "norm.weight": False,
    "norm.bias": False,
    "layer.proj_up.weight": True,
    "layer.proj_up.bias": False,
    "layer.proj_down.weight": True,
    "layer.proj_down.bias": False,
    "layer.scans.0.conv.weight": True,
    "layer.scans.0.conv.bias": False,
    "layer.scans.0.q_proj.weight": True,
    "layer.scans.0.q_proj.bias": False,
    "layer.scans.0.k_proj.weight": True,
    "layer.scans.0.k_proj.bias": False,
    "layer.scans.0.v_proj.weight": True,
    "layer.scans.0.v_proj.bias": False,
    "layer.scans.0.igate.weight": True,
    "layer.scans.0.igate.bias": False,
    "layer.scans.0.fgate.weight": True,
    "layer.scans.0.fgate.bias": False,
    "layer.scans.0.outnorm.weight": False,
    "layer.scans.0.outnorm.bias": False,
    "layer.scans.0.skip": False,
}


def wrapper(model: torch.nn.Module, **paramwise):
    cfg = dict(
        type="OptimWrapper",
        constructor="ViLLayerDecay",
        paramwise_cfg=paramwise,
        optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY),
    )
    return build_optim_wrapper(model, ConfigDict(cfg))


def test_every_parameter_of_vil_t_upernet() -> None:
    model = MODELS.build(UPERNET)
    groups = wrapper(model, layer_decay_rate=RATE, blocks_per_layer=2).optimizer.param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    expected = {
        "backbone.net.pos_embed.embed": (LR * RATE**13, 0.0),
        "backbone.net.patch_embed.proj.weight": (LR * RATE**13, DECAY),
        "backbone.net.patch_embed.proj.bias": (LR * RATE**13, 0.0),
    }
    for block in range(24):
        # two blocks form one of 12 layers: blocks 0 and 1 at 0.65^12, blocks 22 and 23 at 0.65^1
        lr = LR * RATE ** (13 - (block // 2 + 1))
        for name, decays in IN_BLOCK.items():
            expected[f"backbone.net.blocks.{block}.{name}"] = (lr, DECAY if decays else 0.0)
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):
            vector = parameter.ndim == 1
            assert vector == bool(re.search(r"\.bias$|(bn|\.1)\.weight$", name)), name
            expected[name] = (LR, 0.0 if vector else DECAY)
    assert set(expected) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert found.pop(id(parameter)) == pytest.approx(expected[name], rel=1e-12), name
    assert not found


def test_transformer_blocks_are_layers_by_themselves() -> None:
    backbone = dict(type="ViL", variant="deit3-tiny", out_indices=(11,))
    model = torch.nn.Module()
    model.backbone = MODELS.build(backbone)
    groups = wrapper(model, layer_decay_rate=RATE, blocks_per_layer=1).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    names = dict(model.named_parameters())
    for block in range(12):
        weight = names[f"backbone.net.blocks.{block}.mlp.0.weight"]
        assert rates[id(weight)] == pytest.approx(LR * RATE ** (12 - block))


def test_frozen_parameters_are_left_out_and_options_checked() -> None:
    model = torch.nn.Module()
    model.backbone = MODELS.build(dict(type="ViL", dim=32, depth=2, out_indices=(1,), frozen_stages=1))
    names = {id(p): name for name, p in model.named_parameters()}
    listed = {names[id(p)] for group in wrapper(model).optimizer.param_groups for p in group["params"]}
    assert listed == {name for name in names.values() if ".blocks.1." in name}
    with raises_one_line(ValueError, "'decay'"):
        wrapper(model, decay=0.9)
    with raises_one_line(ValueError, "ViL"):
        wrapper(torch.nn.Linear(2, 2), layer_decay_rate=0.5)


@pytest.mark.parametrize(
    ("variant", "decayed", "rest"), [("vil-tiny", 194, 150), ("vil2-tiny", 194, 319), ("deit3-tiny", 50, 128)]
)
def test_groups_of_a_classifier(variant: str, decayed: int, rest: int) -> None:
    """Counts tensors with and without decay as the authors' log does (DeiT: by hand); one rate, none left out."""
    with torch.device("meta"):
        model = MODELS.build(dict(type="ImageClassifier", variant=variant))
    groups = wrapper(model, layer_decay_rate=1.0, blocks_per_layer=2).optimizer.param_groups
    tensors = {group["weight_decay"]: group["params"] for group in groups}
    assert {decay: len(members) for decay, members in tensors.items()} == {DECAY: decayed, 0.0: rest}
    assert {group["lr"] for group in groups} == {LR}
    free = {id(parameter) for parameter in tensors[0.0]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in free and parameter.ndim > 1}
    assert names == {"net.pos_embed.embed"} | ({"net.cls_token"} if variant.startswith("deit3") else set())


def test_stages_and_volume_networks_have_one_order_of_blocks() -> None:
    """Tests HierViL and both volume networks; neck, heads and decoders keep the full rate."""
    from vil_dense.medical import ViLUNet3D, ViLUNETR3D

    hierarchical = MODELS.build(dict(type="HierViL", dims=(8, 8, 16, 16), depths=(1, 1, 2, 1)))
    models = [torch.nn.Module() for _ in range(3)]
    models[0].backbone = hierarchical
    models[1].network = ViLUNet3D(channels=(4, 8), depths=(0, 2))
    models[2].network = ViLUNETR3D(channels=(4,), dim=8, depth=4, grid=(2, 2, 2))
    expected = [
        {
            "stages.0.entry": 6, "stages.0.blocks.0": 5, "stages.1.entry": 4, "stages.1.blocks": 4,
            "stages.2.entry": 3, "stages.2.position": 3, "stages.2.blocks.0": 3, "stages.2.blocks.1": 2,
            "stages.3.entry": 1, "stages.3.position": 1, "stages.3.blocks": 1, "out_norms": 0,
        },
        {"encoder.levels.0": 4, "encoder.levels.1": 3, "stages.1.blocks.0": 2, "stages.1.blocks.1": 1, "decoder": 0},
        {
            "tokenizer": 5, "position": 5, "stage.blocks.0": 4, "stage.blocks.1": 3, "stage.blocks.2": 2,
            "stage.blocks.3": 1, "norms": 0, "fuse": 0, "decoder": 0,
        },
    ]  # fmt: skip
    for model, powers in zip(models, expected, strict=True):
        groups = wrapper(model, layer_decay_rate=RATE, blocks_per_layer=1).optimizer.param_groups
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        seen = set()
        for name, parameter in model.named_parameters():
            part = next(part for part in powers if f".{part}." in f".{name}")
            assert rates[id(parameter)] == pytest.approx(LR * RATE ** powers[part]), name
            seen.add(part)
        assert seen == {*powers}


@pytest.mark.parametrize(
    "backbone", [dict(type="ViL", variant="vil2-tiny"), dict(type="HierViL", variant="hiervil-tiny")]
)
def test_a_backbone_alone(backbone: dict) -> None:
    """Tests that parameters have the rates that they have as a part of a model."""
    model = MODELS.build(backbone)
    holder = torch.nn.Module()
    holder.backbone = model
    options = dict(
        type="OptimWrapper",
        constructor="ViLLayerDecay",
        paramwise_cfg=dict(layer_decay_rate=RATE, blocks_per_layer=2),
        optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY),
    )
    alone, part = (
        [(group["lr"], group["weight_decay"], len(group["params"])) for group in built.optimizer.param_groups]
        for built in (build_optim_wrapper(module, options) for module in (model, holder))
    )
    assert alone == part and min(alone)[0] < LR * RATE
