"""Tests the learning rate of each update, against values of the authors' formula written out by hand."""

import logging
import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from refusals import raises_one_line

from vil_dense.mm.engine.optim.schedules import WarmupCosineLR, rate_at
from vil_dense.mm.engine.runner import ViLRunner


def rates(scheduler, optimizer, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_by_hand():
    """Warms up to 0.02 in 3 of 8 steps, ends at 0.001: quarters of the peak, then the cosine at 0, 1/4, 1/2, 3/4, 1."""
    half = 0.5 / math.sqrt(2)
    expected = [0.005, 0.01, 0.015, 0.02, *(0.001 + 0.019 * x for x in (0.5 + half, 0.5, 0.5 - half)), 0.001]
    sgd = optimizer(0.02)
    scheduler = WarmupCosineLR(sgd, warmup=3, end=8, eta_min=0.001, by_epoch=False)
    assert rates(scheduler, sgd, 8) == pytest.approx(expected, rel=1e-12)


def test_the_paper_s_longest_run():
    """Takes ViL-T: 800 epochs of 625 updates, 5 of warm-up, 2e-3 down to 1e-6."""
    at = {step: rate_at(step, 2e-3, 3125, 500_000, 1e-6) for step in (0, 3124, 3125, 251_562, 499_999)}
    assert at[0] == pytest.approx(2e-3 / 3126, rel=1e-12) and at[3124] == pytest.approx(2e-3 * 3125 / 3126, rel=1e-12)
    assert at[3125] == 2e-3 and at[499_999] == pytest.approx(1e-6, rel=1e-9)
    assert at[251_562] == pytest.approx((2e-3 + 1e-6) / 2, rel=1e-9)


def test_epochs_become_updates():
    config = dict(type="WarmupCosineLR", warmup=1, end=4, eta_min=1e-3, by_epoch=True, convert_to_iter_based=True)
    wrapper = OptimWrapper(optimizer(1.0))
    scheduler = PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=wrapper, epoch_length=5))
    assert (scheduler.warmup, scheduler.end, scheduler.by_epoch) == (5, 20, False)


def test_a_resumed_run_goes_on():
    whole, first, second = (optimizer(0.5) for _ in range(3))
    options = dict(warmup=4, end=20, by_epoch=False)
    expected = rates(WarmupCosineLR(whole, **options), whole, 20)
    scheduler = WarmupCosineLR(first, **options)
    found = rates(scheduler, first, 7)
    resumed = WarmupCosineLR(second, **options)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert found + rates(resumed, second, 13) == expected


def test_a_warmup_as_long_as_the_run_is_refused():
    with raises_one_line(ValueError, "8"):
        WarmupCosineLR(optimizer(1.0), warmup=8, end=8, by_epoch=False)


@pytest.mark.parametrize(("world", "batch", "updates", "rate"), [(8, 256, 1, 2e-3), (1, 64, 4, 2.5e-4)])
def test_rate_follows_the_images_of_an_update(world: int, batch: int, updates: int, rate: float) -> None:
    """Tests MMEngine's `auto_scale_lr` where gradients are accumulated."""
    wrapper = OptimWrapper(torch.optim.SGD([torch.zeros(1)], lr=1e-3), accumulative_counts=updates)
    runner = ViLRunner.__new__(ViLRunner)
    runner._world_size, runner._train_dataloader = world, dict(batch_size=batch)
    runner.param_schedulers, runner.logger = None, logging.getLogger("test")
    runner.scale_lr(wrapper, dict(base_batch_size=1024, enable=True))
    assert wrapper.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
