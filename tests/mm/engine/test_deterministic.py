"""Tests `--deterministic`: two runs give the same bits, and torch is told to refuse what could differ."""

import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from small_runs import NETWORK, build_run, data_options
from torch import nn

from vil_dense.mm.engine.hooks.deterministic import DeterministicHook, ProductPool2d, SummedCrossEntropy
from vil_dense.mm.utils.safe_load import load_safely
from vil_dense.synthetic.scenes import write_sample

OPTIONS = NETWORK | {
    "model.backbone.drop_path": 0.3, "train_cfg.max_iters": 3, "train_cfg.val_interval": 10,
    "train_dataloader.batch_size": 2, "default_hooks.checkpoint.interval": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def settings_restored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def trained(sample: Path, work_dir: Path, deterministic: bool) -> dict:
    """Returns weights and optimizer after three steps."""
    run = build_run(work_dir, OPTIONS | data_options(sample, ("train", "val")), deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    run.train()
    pools = [type(module) for module in run.model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    assert pools == [ProductPool2d if deterministic else nn.AdaptiveAvgPool2d] * 4
    end = load_safely(str(work_dir / "iter_3.pth"))
    return dict(state_dict=end["state_dict"], optimizer=end["optimizer"])


def test_two_runs_are_equal(tmp_path: Path):
    sample = write_sample(tmp_path / "sample", train=4, val=1)
    one, two = (trained(sample, tmp_path / name, deterministic=True) for name in "ab")
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_without_the_flag_nothing_is_asked_for(tmp_path: Path):
    trained(write_sample(tmp_path / "sample", train=4, val=1), tmp_path / "work", deterministic=False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.parametrize("size", [1, 3, (2, 6), (None, 5), (9, 9)])
@pytest.mark.parametrize("shape", [(11, 7), (6, 6), (2, 1)])
def test_pooling_by_products_is_the_same(size: int | tuple, shape: tuple[int, int]):
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    results = []
    for pool in (nn.AdaptiveAvgPool2d(size), ProductPool2d(size)):
        out = pool(x)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append((out, *torch.autograd.grad((out * weights).sum(), x)))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_mean_of_a_cross_entropy_is_the_same(smoothing: float):
    x = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 4, (2, 3, 5, 6))
    target[0, 0] = -100
    results = []
    for loss in (nn.CrossEntropyLoss(label_smoothing=smoothing), SummedCrossEntropy(label_smoothing=smoothing)):
        value = loss(x, target)
        results.append((value, *torch.autograd.grad(value, x)))
    torch.testing.assert_close(results[1], results[0])
    shares = torch.rand(2, 4, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(SummedCrossEntropy()(x, shares), nn.CrossEntropyLoss()(x, shares), rtol=0, atol=0)


def test_the_loss_of_volumes_takes_that_form():
    losses = pytest.importorskip("monai.losses", reason="MONAI is missing: pip install '.[medical]'")
    model = nn.ModuleList([losses.DiceCELoss(softmax=True, to_onehot_y=True)])
    logits, label = torch.randn(1, 3, 4, 4, 4), torch.randint(0, 3, (1, 1, 4, 4, 4)).float()
    before = model[0](logits, label)
    DeterministicHook().before_run(Namespace(model=model))
    assert type(model[0].cross_entropy) is SummedCrossEntropy
    torch.testing.assert_close(model[0](logits, label), before)
