"""Tests LoRA and frozen backbones as one option of a run, of pictures and of volumes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fold_runs import read, write_cases
from fold_runs import write_config as write_volumes
from mmengine.config import Config
from mmengine.registry import MODELS
from refusals import assert_error_line, raises_one_line
from run_command import ROOT, run_command
from small_runs import CROP, write_config
from torch import nn

from vil_dense.layers.lora import PARTS
from vil_dense.mm import Segmentor
from vil_dense.mm.engine.fine_tuning import FrozenBackboneHook, set_trained_parts
from vil_dense.mm.utils.safe_load import load_safely, weights_of
from vil_dense.mm.volumes import VolumeSegmentor
from vil_dense.mm.volumes.predictor import load_segmentors

NETWORKS = {
    "ViLUNet3D": dict(channels=(4, 8), depths=(0, 1)),
    "ViLUNETR3D": dict(channels=(4,), dim=8, depth=4),
    "SegResNet": dict(init_filters=8),
}


def volumes(tmp_path: Path, network: str = "ViLUNet3D") -> VolumeSegmentor:
    cfg = read(write_volumes(tmp_path / "volumes.py", tmp_path))
    options = {key: value for key, value in cfg.model.items() if key != "type"}
    return VolumeSegmentor(**{**options, "network": dict(type=network, **NETWORKS[network])})


def pictures(kind: str) -> nn.Module:
    small = dict(ViL=dict(dim=16, depth=2, out_indices=(0, 1)), HierViL=dict(dims=(8,), depths=(1,), out_indices=(0,)))
    options = dict(small[kind], drop_path=0.5)
    if kind == "HierViL":
        options["sequence_strides"] = (4,)
    width = 16 if kind == "ViL" else 8
    head = dict(type="FCNHead", in_channels=width, in_index=-1, channels=4, num_convs=1, num_classes=3)
    backbone = dict(type=kind, **options)
    return MODELS.build(dict(type="EncoderDecoder", backbone=backbone, decode_head=head))


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", ["ViL", "HierViL", "ViLUNet3D", "ViLUNETR3D"])
@pytest.mark.parametrize("option", [dict(lora=2), dict(freeze_backbone=True)], ids=["lora", "frozen"])
def test_heads_and_decoders_are_trained(kind: str, option: dict[str, Any], tmp_path: Path) -> None:
    model = volumes(tmp_path, kind) if kind in NETWORKS else pictures(kind)
    before = trained(model)
    line = set_trained_parts(model, Config(option))
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert line.startswith(f"trained parameters: {count:,} of ")
    left = trained(model)
    adapters = {name for name in left if name.endswith(PARTS)}
    assert bool(adapters) == ("lora" in option) and all(".proj_" in name for name in adapters)
    heads = ("network.decoder.",) if kind in NETWORKS else ("decode_head.", "backbone.out_norms.")
    assert left - adapters == {name for name in before if name.startswith(heads)}


def test_a_frozen_backbone_stays_in_evaluation_mode(tmp_path: Path) -> None:
    for model in (pictures("ViL"), volumes(tmp_path)):
        set_trained_parts(model, Config(dict(freeze_backbone=True)))
        model.train()
        FrozenBackboneHook().before_train_iter(type("Runner", (), dict(model=model)), 0)
        modes = {name: module.training for name, module in model.named_modules() if name.count(".") > 1}
        frozen = {name for name, mode in modes.items() if not mode}
        heads = ("decode_head", "auxiliary_head", "network.decoder", "backbone.out_norms", "loss", "data_pre")
        assert frozen == {name for name in modes if not name.startswith(heads)} and frozen


@pytest.mark.parametrize(
    ("option", "names"),
    [
        (dict(lora=0), ("rank", "0")),
        (dict(lora=True), ("rank", "True")),
        (dict(lora=dict(rank=4, ranks=2)), ("ranks",)),
        (dict(lora=dict(rank=4, alpha=-1)), ("alpha", "-1")),
        (dict(lora=dict(rank=4, targets="proj_up")), ("targets", "proj_up")),
        (dict(freeze_backbone="backbone"), ("True or False", "backbone")),
        (dict(lora=4, freeze_backbone=True), ("lora", "freeze_backbone")),
    ],
)
def test_options_that_cannot_be(option: dict[str, Any], names: tuple[str, ...], tmp_path: Path) -> None:
    model = volumes(tmp_path)
    with raises_one_line(ValueError, *names):
        set_trained_parts(model, Config(option))
    with raises_one_line(ValueError, "SegResNet", "ViLUNet3D"):
        set_trained_parts(volumes(tmp_path, "SegResNet"), Config(dict(lora=2)))


def test_a_run_with_lora_resumes_and_is_published_merged(tmp_path: Path, monkeypatch, capsys) -> None:
    config, work = write_config(tmp_path), tmp_path / "work"
    line = f"train {config} --work-dir {work} --cfg-options lora=2 {CROP} default_hooks.checkpoint.save_best=None"
    assert run_command(f"{line} train_cfg.max_iters=1", monkeypatch) == 0
    assert "LoRA of rank 2 in 4 linear maps" in capsys.readouterr().out
    assert run_command(line.replace("--cfg", "--resume --cfg"), monkeypatch) == 0
    state = weights_of(load_safely(str(work / "iter_2.pth")))
    first = weights_of(load_safely(str(work / "iter_1.pth")))
    key = "backbone.net.blocks.0.layer.proj_down."
    assert torch.equal(state[f"{key}weight"], first[f"{key}weight"]) and state[f"{key}lora_up"].abs().max() > 0
    assert not torch.equal(state[f"{key}lora_up"], first[f"{key}lora_up"])
    # the trained network with its adapters, and what test, predict and publish make of the checkpoint
    model = MODELS.build(Config.fromfile(work / "config.py").model)
    set_trained_parts(model, Config(dict(lora=2)))
    model.load_state_dict(state)
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
    assert run_command(f"publish_model {work} --out {tmp_path}/model.safetensors", monkeypatch) == 0
    for source in (work, tmp_path / "model.safetensors"):
        merged = Segmentor.load(source, device="cpu").model
        assert not any(name.endswith(PARTS) for name in merged.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(merged(inputs), model.eval()(inputs), atol=1e-5, rtol=1e-5)
    capsys.readouterr()
    assert run_command(f"test {work}/config.py {work}/iter_2.pth --work-dir {tmp_path}/test", monkeypatch) == 0
    assert "iter_1.pth" not in capsys.readouterr().out, "the checkpoint that the run resumed from"
    # a run that begins with these weights, and one that would resume without the adapters
    start = f"--cfg-options {CROP} load_from={work}/iter_2.pth train_cfg.max_iters=1"
    assert run_command(f"train {config} --work-dir {tmp_path}/new {start} lora=3", monkeypatch) == 0
    capsys.readouterr()
    assert run_command(f"train {config} --work-dir {work} --resume --cfg-options {CROP}", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "iter_2.pth", "lora_")


def test_a_volume_run_with_lora(tmp_path: Path, monkeypatch) -> None:
    data = write_cases(tmp_path / "data", 4, folds=2)
    config = write_volumes(tmp_path / "small.py", data)
    base = ROOT / "configs/_base_/schedules/adamw_volumes.py"
    config.write_text(config.read_text().replace('/volumes_runtime.py"', f'/volumes_runtime.py", "{base}"'))
    options = (
        "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2 lora.rank=2 lora.alpha=4"
    )
    more = "val_evaluator.type=VolumeMetric optim_wrapper.paramwise_cfg.layer_decay_rate=0.5"
    work = tmp_path / "work"
    assert run_command(f"train {config} --work-dir {work} --cfg-options {options} {more}", monkeypatch) == 0
    cfg = Config.fromfile(work / "small.py")
    merged = load_segmentors(cfg.model, [work / "iter_2.pth"], "cpu")[0]
    model = VolumeSegmentor(**{key: value for key, value in cfg.model.items() if key != "type"})
    set_trained_parts(model, cfg)
    model.load_state_dict(weights_of(load_safely(str(work / "iter_2.pth"))))
    patch = torch.randn(1, 1, 8, 8, 8)
    adapter = model.network.stages[1].blocks[0].layer.proj_up
    assert float(adapter.lora_scale) == 2 and adapter.lora_up.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(merged(patch), model.eval()(patch), atol=1e-5, rtol=1e-5)
