"""Runs that are told to end by SIGTERM."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler, KeyedSampler
from vil_dense.mm.engine.failures import resume_point
from vil_dense.mm.engine.hooks.preemption import REQUEUE, PreemptionHook
from vil_dense.mm.utils.safe_load import install


@pytest.fixture(autouse=True)
def handler_restored() -> Iterator[None]:
    """Checks that a test leaves the handler of SIGTERM as it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor] | list[Tensor]:
        return dict(loss=self.head(inputs).square().mean()) if mode == "loss" else [inputs]


class Count(BaseMetric):
    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(count=float(len(results)))


class Tell(Hook):
    """Sends SIGTERM to this process during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def runner(
    work_dir: Path,
    tell: int = 0,
    *,
    workers: int = 0,
    resume: bool = False,
    val: DataLoader | None = None,
    template: str | None = None,
    **loop,
) -> Runner:
    install()
    torch.manual_seed(0)
    data = [dict(inputs=torch.full((3,), float(index))) for index in range(12)]
    epochs = "max_epochs" in loop
    updates, batch_size = loop.pop("updates", 1), loop.pop("batch_size", 2)
    sampler = (KeyedSampler if epochs else KeyedInfiniteSampler)(data, seed=0)
    return Runner(
        Net(),
        str(work_dir),
        train_dataloader=DataLoader(data, batch_size=batch_size, num_workers=workers, sampler=sampler),
        train_cfg=loop or dict(type="IterBasedTrainLoop", max_iters=6, val_interval=2),
        val_dataloader=val,
        val_cfg=val and dict(),
        val_evaluator=val and [Count()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9), accumulative_counts=updates),
        default_hooks=dict(
            checkpoint=dict(
                type="SafeCheckpointHook", by_epoch=epochs, interval=1 if epochs else 4, filename_tmpl=template
            ),
            logger=dict(type="LoggerHook", interval=1),
            stop=PreemptionHook(),
        ),
        custom_hooks=[dict(type="StepSeedHook"), Tell(tell)],
        log_processor=dict(by_epoch=epochs),
        randomness=dict(seed=0),
        load_from=resume_point(str(work_dir)) if resume else None,
        resume=resume,
        experiment_name=f"{work_dir.name}_{resume}",
    )


def stop(run: Runner) -> None:
    with pytest.raises(SystemExit) as end:
        run.train()
    assert end.value.code == REQUEUE == 75
