"""Tests that a resumed run does what its numbers say: schedules of other lengths and rates, hooks with a state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from forget_runs import forget_runs
from line_runs import Line
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import Runner

from vil_dense.mm.engine.runner import ViLRunner

MODELS.register_module(name="ResumedLine", module=Line, force=True)


@HOOKS.register_module(force=True)
class RateHook(Hook):
    """Notes the learning rate of each step."""

    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        self.rates: dict[int, float] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.rates[runner.iter] = runner.optim_wrapper.param_groups[0]["lr"]


@METRICS.register_module(force=True)
class WorseMetric(BaseMetric):
    """Gets worse after the first validation."""

    count = 0

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        WorseMetric.count += 1
        return dict(score=1 / WorseMetric.count)


def config(work_dir: Path, schedule: list[dict], steps: int, **options: Any) -> Config:
    data = dict(batch_size=1, num_workers=0, dataset=[torch.ones(1)] * 4)
    train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=100)
    base = dict(
        model=dict(type="ResumedLine"),
        work_dir=str(work_dir),
        train_dataloader=dict(data, sampler=dict(type="InfiniteSampler", shuffle=False)),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
        param_scheduler=schedule,
        default_hooks=dict(checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=2)),
        custom_hooks=[dict(type="RateHook")],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
        log_level="WARNING",
        label_check=None,
        default_scope="mmengine",
    )
    return Config({**base, **options})


def rates(cfg: Config) -> dict[int, float]:
    """Runs a config and returns the learning rates of its steps."""
    forget_runs()
    runner = ViLRunner.from_cfg(cfg)
    runner.train()
    return next(hook for hook in runner.hooks if isinstance(hook, RateHook)).rates


def poly(steps: int) -> list[dict]:
    warmup = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=3)
    return [warmup, dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=3, end=steps)]


def cosine(steps: int) -> list[dict]:
    return [dict(type="WarmupCosineLR", warmup=2, end=steps, by_epoch=False)]


def annealing(steps: int) -> list[dict]:
    return [dict(type="CosineAnnealingLR", T_max=steps, eta_min=1e-4, by_epoch=False, begin=0, end=steps)]


def fixed(steps: int) -> list[dict]:
    return [dict(type="MultiStepLR", milestones=[steps // 2], by_epoch=False)]


@pytest.mark.parametrize("schedule", [poly, cosine, annealing, fixed])
def test_more_steps_follow_the_schedule_of_the_new_length(schedule: Any, tmp_path: Path) -> None:
    whole = rates(config(tmp_path / "whole", schedule(14), 14))
    rates(config(tmp_path / "run", schedule(8), 8))
    resumed = rates(config(tmp_path / "run", schedule(14), 14, auto_resume=True))
    assert list(resumed) == list(range(8, 14))
    assert resumed == pytest.approx({step: whole[step] for step in resumed}, rel=1e-6)


@pytest.mark.parametrize("schedule", [poly, cosine, annealing, fixed])
def test_the_same_numbers_go_on_bit_for_bit(schedule: Any, tmp_path: Path) -> None:
    whole = rates(config(tmp_path / "whole", schedule(14), 14))
    rates(config(tmp_path / "run", schedule(14), 6))
    resumed = rates(config(tmp_path / "run", schedule(14), 14, auto_resume=True))
    assert resumed == {step: whole[step] for step in range(6, 14)}


def test_another_learning_rate_is_taken(tmp_path: Path) -> None:
    lower = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9))
    whole = rates(config(tmp_path / "whole", poly(14), 14, optim_wrapper=lower))
    rates(config(tmp_path / "run", poly(14), 6))
    resumed = rates(config(tmp_path / "run", poly(14), 14, auto_resume=True, optim_wrapper=lower))
    assert resumed == pytest.approx({step: whole[step] for step in resumed}, rel=1e-6)


def early(work_dir: Path, steps: int, **options: Any) -> Config:
    data = dict(batch_size=1, num_workers=0, dataset=[torch.ones(1)])
    stop = dict(type="EarlyStoppingHook", monitor="score", rule="greater", patience=3)
    return config(
        work_dir,
        cosine(40),
        steps,
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=2),
        val_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
        val_cfg=dict(),
        val_evaluator=[dict(type="WorseMetric")],
        custom_hooks=[dict(type="RateHook"), stop],
        **options,
    )


@pytest.mark.parametrize("stop", [2, 4])
def test_early_stopping_counts_on_in_a_resumed_run(stop: int, tmp_path: Path) -> None:
    """Makes the first validation the best one, so the run ends three validations later, at step 8.

    With `save_best` the checkpoint of the best step is saved again within its validation.
    """
    hooks = dict(
        checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=2, save_best="score", rule="greater")
    )
    WorseMetric.count = 0
    assert max(rates(early(tmp_path / "whole", 40, default_hooks=hooks))) == 7
    WorseMetric.count = 0
    rates(early(tmp_path / "run", stop, default_hooks=hooks))
    WorseMetric.count = stop // 2 - 1  # the last validation is repeated
    assert max(rates(early(tmp_path / "run", 40, auto_resume=True, default_hooks=hooks))) == 7


def test_early_stopping_leaves_a_checkpoint(tmp_path: Path) -> None:
    WorseMetric.count = 0
    hooks = dict(checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=1000))
    rates(early(tmp_path, 40, default_hooks=hooks))
    assert (tmp_path / "last_checkpoint").read_text().endswith("iter_8.pth") and (tmp_path / "iter_8.pth").is_file()
