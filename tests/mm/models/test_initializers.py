"""Tests that recipes with the authors' numbers start as their code does: heads, patch embedding, first rate."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from torch import nn

from vil_dense.backbones import VisionLSTM
from vil_dense.backbones import variant as variant_options

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("name", ["decode_head", "auxiliary_head"])
def test_all_convolutions_of_a_head_are_normal(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / "vil_upernet_ade20k.py")
    head = cfg.model[name]
    head.norm_cfg.type = "BN"
    torch.manual_seed(0)
    built = MODELS.build(head)
    built.init_weights()
    convs = {name: module for name, module in built.named_modules() if isinstance(module, nn.Conv2d)}
    assert len(convs) == (13 if name == "decode_head" else 2)
    for place, conv in convs.items():
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.03), place
        assert conv.bias is None or not conv.bias.any(), place


@pytest.mark.parametrize(("name", "std"), [("deit3-tiny", 0.02), ("vil2-tiny", (2 / (192 + 3 * 16 * 16)) ** 0.5)])
def test_patch_embedding(name: str, std: float) -> None:
    torch.manual_seed(0)
    net = VisionLSTM(**{**variant_options(name), "depth": 2})
    assert net.patch_embed.proj.weight.std().item() == pytest.approx(std, rel=0.01)


def test_first_rate_and_peak_of_the_warmup() -> None:
    cfg = Config.fromfile(CONFIGS / "vil_upernet_ade20k.py")
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    warmup = PARAM_SCHEDULERS.build(cfg.param_scheduler[0], default_args=dict(optimizer=sgd))
    rates = []
    for _ in range(1500):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        warmup.step()
    assert rates[0] == pytest.approx(3.33e-7, rel=0.001) and rates[-1] == pytest.approx(5e-4, rel=1e-9)
