"""Tests that every classifier config builds whole, and shrunk takes a training and a validation step."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from config_files import BY_NAME, CLASSIFIERS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import METRICS, MODELS, TRANSFORMS, init_default_scope

import vil_dense.mm  # noqa: F401
from vil_dense.mm.engine.resolve.config import resolve_amp, resolve_classes

CONFIGS = [*CLASSIFIERS, BY_NAME["vil2-6x64_8e_camvid-crops-96"]]
# parameters with 1000 classes, measured of the official code (v1 and v2; HierViL: our own count); the
# first 100 classes at 128 px
PARAMETERS = {
    "vil_imagenet": 6_088_360,
    "vil-t-plus_800e_in1k-224": 7_277_840,
    "vil-s_400e_in1k-224": 22_792_360,
    "vil-s-plus_400e_in1k-224": 24_628_664,
    "vil-b_400e_in1k-224": 88_050_856,
    "vil-l_400e_in1k-224": 308_282_728,
    "vil-t-plus-stride8_30e_in1k-224": 7_277_840,
    "vil2-t_800e-20e_in1k-224": 6_391_528,
    "vil2-s_400e-20e_in1k-224": 23_398_696,
    "vil2-b_400e-5e_in1k-224": 89_263_528,
    "hiervil-t_300e_in1k-224": 6_456_776,
    "vil-t_uni_400e_in100-128": 5_889_316,
    "vil-t_bi_400e_in100-128": 6_285_796,
    "vil-t_bi-shared_400e_in100-128": 5_889_316,
    "vil-t_quad_400e_in100-128": 7_078_756,
    "vil-t_quad-alternating_400e_in100-128": 5_889_316,
}
# run: epochs, pictures of an update on 8 GPUs, rate, px, warm-up epochs, last rate, clipping, decay, drop path (f.1)
RECIPES = {
    "vil_imagenet": (800, 2048, 2e-3, 224, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil-t_400e_in1k-224": (400, 1024, 1e-3, 224, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil-t-plus_800e_in1k-224": (800, 2048, 2e-3, 224, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil-t-plus_400e_in1k-224": (400, 1024, 1e-3, 224, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil-s_400e_in1k-224": (400, 1024, 1e-3, 224, 5, 1e-6, 1.0, 0.05, 0.05),
    "vil-s-plus_400e_in1k-224": (400, 1024, 1e-3, 224, 5, 1e-6, 1.0, 0.05, 0.05),
    "vil-b_400e_in1k-224": (400, 2048, 2e-3, 224, 5, 1e-6, 1.0, 0.05, 0.2),
    "vil2-t_800e_in1k-192": (800, 2048, 2e-3, 192, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil2-t_400e_in1k-192": (400, 2048, 2e-3, 192, 5, 1e-6, 1.0, 0.05, 0.0),
    "vil2-s_400e_in1k-192": (400, 2048, 2e-3, 192, 5, 1e-6, 1.0, 0.05, 0.05),
    "vil2-b_400e_in1k-192": (400, 2048, 2e-3, 192, 5, 1e-6, 1.0, 0.05, 0.2),
    "vil2-t_800e-20e_in1k-224": (20, 1024, 1e-5, 224, 5, 1e-6, None, 0.05, 0.0),
    "vil2-t_400e-20e_in1k-224": (20, 1024, 1e-5, 224, 5, 1e-6, None, 0.05, 0.0),
    "vil2-s_400e-20e_in1k-224": (20, 1024, 1e-5, 224, 5, 1e-6, None, 0.05, 0.05),
    "vil2-b_400e-5e_in1k-224": (5, 1024, 1e-5, 224, 1, 1e-6, None, 0.05, 0.2),
    "vil-t-plus-stride8_30e_in1k-224": (30, 1024, 1e-5, 224, 5, 1e-5, None, 1e-8, 0.0),
    "vil-s-plus-stride8_30e_in1k-224": (30, 1024, 1e-5, 224, 5, 1e-5, None, 1e-8, 0.05),
    "vil-b-stride8_30e_in1k-224": (30, 1024, 1e-5, 224, 5, 1e-5, None, 1e-8, 0.2),
    "vil-t_uni_400e_in100-128": (400, 1024, 1e-3, 128, 50, 1e-6, 1.0, 0.05, 0.0),
    "vil-t_average_400e_in1k-192": (400, 1024, 1e-3, 192, 5, 1e-6, 1.0, 0.05, 0.0),
    "deit3-t_800e_in1k-192": (800, 1024, 1e-3, 192, 5, 1e-6, None, 0.05, 0.0),
    "deit3-t_800e-20e_in1k-224": (20, 1024, 1e-5, 224, 5, 1e-6, None, 0.05, 0.0),
    "deit3-t-stride8_30e_in1k-224": (30, 1024, 1e-5, 224, 5, 1e-5, None, 1e-8, 0.0),
}

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


@cache
def parsed(path: Path) -> Config:
    return Config.fromfile(path)


def read(path: Path) -> Config:
    init_default_scope("mmengine")
    return deepcopy(parsed(path))


@each_config
def test_builds_whole(path: Path):
    """Builds on the meta device, so that L costs nothing, and each step of the pipelines."""
    cfg = read(path)
    cfg.model.pop("init_cfg", None)
    with torch.device("meta"):
        net = MODELS.build({**cfg.model, "data_preprocessor": None}).net
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS.get(
        path.stem, sum(p.numel() for p in net.parameters())
    )
    for split in ("train", "val", "test"):
        for step in cfg[f"{split}_dataloader"].dataset.pipeline:
            TRANSFORMS.build(step)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str):
    """Compares with what the authors' files say, on 8 GPUs."""
    cfg = read(next(path for path in CONFIGS if path.stem == name))
    schedule, optimizer = cfg.param_scheduler[0], cfg.optim_wrapper.optimizer
    images = 8 * cfg.train_dataloader.batch_size * cfg.optim_wrapper.get("accumulative_counts", 1)
    rate = optimizer.lr * images / cfg.auto_scale_lr.base_batch_size if cfg.auto_scale_lr.enable else optimizer.lr
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    size = steps["RandomResizedCrop"]["size"]
    assert (
        cfg.train_cfg.max_epochs,
        8 * cfg.train_dataloader.batch_size,
        pytest.approx(rate),
        size,
        schedule.warmup,
        schedule.eta_min,
        (cfg.optim_wrapper.clip_grad or {}).get("max_norm"),
        optimizer.weight_decay,
        cfg.model.get("drop_path", 0.0),
    ) == RECIPES[name]
    assert cfg.val_dataloader.dataset.pipeline[1]["size"] == cfg.test_dataloader.dataset.pipeline[1]["size"] == size
    # the stored position embedding is that of whole patches, also where they overlap
    assert tuple(cfg.model.grid) == (size // 16, size // 16)
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.mean[0] == 123.675 and (preprocessor.mixup, preprocessor.cutmix) == (0.8, 1.0)


@pytest.mark.parametrize("study", ["designs", "pooling"])
def test_rows_of_a_study_differ_in_the_network_alone(study: str):
    rows = [read(path) for path in CONFIGS if path.parent.name == study]
    assert len(rows) == dict(designs=7, pooling=5)[study]
    for row in rows:
        row.model.pop("direction", None), row.model.pop("pooling", None)
    assert all(row.to_dict() == rows[0].to_dict() for row in rows)


@each_config
def test_shrunk_takes_a_training_and_a_validation_step(path: Path):
    cfg = read(path)
    cfg.model.pop("init_cfg", None)
    cfg.model.num_classes = 7
    if cfg.model.variant.startswith("hiervil"):
        cfg.model.update(dims=(16, 32), depths=(1, 1), sequence_strides=(8,), drop_path=0.0)
    else:
        cfg.model.update(dim=32, depth=2, grid=(2, 2))
    if cfg.model.variant.startswith("deit3"):
        cfg.model.num_heads = 2
    if cfg.model.variant == "vil-large":
        cfg.model.depth = 4
    resolve_classes(cfg)
    resolve_amp(cfg, cuda=False)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    cfg.optim_wrapper.optimizer.lr = 1e-2
    batch = dict(inputs=torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8), labels=torch.tensor([0, 1, 2, 6]))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    # the head starts so small that only a second step moves what lies before it
    losses = [model.train_step(batch, wrapper)["loss"] for _ in range(2)]
    assert all(torch.isfinite(loss) for loss in losses)
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    # with stochastic depth a branch may be left out twice
    assert not still or cfg.model.get("drop_path"), f"not trained: {still}"
    evaluator = Evaluator([METRICS.build(cfg.val_evaluator)])
    evaluator.dataset_meta = dict(classes=tuple("abcdefg"))
    model.eval()
    evaluator.process(model.val_step(batch), batch)
    assert set(evaluator.evaluate(4)) == {"top1", "top5"}
