"""Tests accumulated gradients: no checkpoint lies between two updates, so a run that was cut off ends alike."""

import os
from pathlib import Path

import pytest
import torch
from forget_runs import forget_runs
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from vil_dense.mm.engine.checkpoint_names import POINTER
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.engine.run_start import newest
from vil_dense.mm.utils import safe_load

STEPS = dict(type="IterBasedTrainLoop", max_iters=11, val_interval=3)
EPOCHS = dict(type="EpochLoop", max_epochs=5, val_interval=1)
PLAIN = {**EPOCHS, "type": "EpochBasedTrainLoop"}


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor, mode: str) -> object:
        return dict(loss=(self.layer(x) - 1).square().mean()) if mode == "loss" else [x]


class Later(BaseMetric):
    """Scores better at each validation."""

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(score=float(self.now()))


class CutOff(Hook):
    priority = "HIGHEST"

    def __init__(self, step: int) -> None:
        self.step = step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if runner.iter == self.step:
            raise KeyboardInterrupt


def runner(work_dir: Path, loop: dict, cut: int = -1, *, resume: bool = False, updates: int = 2, **hook) -> Runner:
    """Returns a runner of eleven steps, or of five epochs of five."""
    forget_runs()
    safe_load.install()
    torch.manual_seed(0)
    epochs = "max_epochs" in loop
    data = dict(batch_size=1, num_workers=0, dataset=[torch.full((1,), float(value)) for value in range(5)])
    start = newest(str(work_dir))[0] if resume else None
    metric = Later()
    run = Runner(
        Net(),
        str(work_dir),
        train_dataloader=dict(data, sampler=dict(type="KeyedSampler" if epochs else "KeyedInfiniteSampler", seed=0)),
        val_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=loop,
        val_cfg=dict(),
        val_evaluator=[metric],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.02, momentum=0.9), accumulative_counts=updates),
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1),
            sampler_seed=dict(type="DistSamplerSeedHook"),
            checkpoint=dict(
                type="SafeCheckpointHook",
                by_epoch=epochs,
                **dict(dict(interval=1 if epochs else 3, save_best="score", rule="greater"), **hook),
            ),
        ),
        custom_hooks=[CutOff(cut)],
        log_processor=dict(by_epoch=epochs),
        randomness=dict(seed=0),
        load_from=start,
        resume=start is not None,
    )
    metric.now = lambda: run.iter
    return run


def files(work_dir: Path) -> set[str]:
    return {path.name for path in work_dir.iterdir() if path.is_file() and path.suffix != ".py"}


@pytest.fixture(scope="module", params=[STEPS, EPOCHS, PLAIN], ids=lambda loop: loop["type"])
def loop(request: pytest.FixtureRequest) -> dict:
    return request.param


@pytest.fixture(scope="module", params=[2, 4])
def unbroken(request: pytest.FixtureRequest, loop: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Trains once what all cuts are compared with; returns the work folder, and the steps of an update."""
    folder = tmp_path_factory.mktemp("whole")
    runner(folder, loop, updates=request.param).train()
    return folder, request.param


@pytest.mark.parametrize("cut", [3, 4, 5, 7, 10])
def test_a_run_that_goes_on_ends_as_the_unbroken_one(loop: dict, unbroken: tuple[Path, int], cut: int, tmp_path: Path):
    whole, updates = unbroken
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, loop, cut, updates=updates).train()
    runner(tmp_path, loop, resume=True, updates=updates).train()
    assert files(tmp_path) == files(whole)
    ends = [safe_load.load_safely((folder / POINTER).read_text()) for folder in (whole, tmp_path)]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
    losses = [read_scalars(str(folder), "loss") for folder in (whole, tmp_path)]
    assert losses[1] == losses[0]


def test_the_names_say_the_steps(tmp_path: Path):
    runner(tmp_path, STEPS, save_best=None).train()
    assert files(tmp_path) == {f"iter_{step}.pth" for step in (4, 6, 10, 11)} | {POINTER}


@pytest.mark.parametrize(
    ("loop", "names"), [(EPOCHS, ("1_step_1", "2", "3_step_1", "4", "5")), (PLAIN, ("2", "4", "5"))]
)
def test_epochs_that_end_between_two_updates(loop: dict, names: tuple[str, ...], tmp_path: Path, monkeypatch):
    saved, save = [], Runner.save_checkpoint
    monkeypatch.setattr(
        Runner, "save_checkpoint", lambda run, *to, **more: (saved.append(to[1]), save(run, *to, **more))
    )
    runner(tmp_path, loop, save_best=None).train()
    assert saved == [f"epoch_{name}.pth" for name in names]
    samples = safe_load.load_safely(str(tmp_path / "epoch_4.pth"))["message_hub"]["runtime_info"]
    assert samples.get("samples_read", 0) == 0


@pytest.mark.parametrize(("loop", "last"), [(STEPS, "iter_3.pth"), (EPOCHS, "epoch_1.pth")])
def test_a_run_that_is_ended_early_is_saved(loop: dict, last: str, tmp_path: Path):
    class Enough(Hook):
        def after_val_epoch(self, run: Runner, metrics: dict | None = None) -> None:
            run.train_loop.stop_training = True

    run = runner(tmp_path, loop)
    run.register_hook(Enough())
    run.train()
    assert os.path.basename((tmp_path / POINTER).read_text()) == last
