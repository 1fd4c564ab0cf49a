"""Runs of eight steps of a linear model, which can be cut off, and what they leave."""

import json
from pathlib import Path

import torch
from forget_runs import forget_runs
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from vil_dense.mm.engine.run_start import newest
from vil_dense.mm.utils import safe_load

SCORES = (0.3, 0.5, 0.4, 0.9)


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, mode: str = "tensor") -> object:
        return dict(loss=self.layer(x).square().mean()) if mode == "loss" else [x]


class Score(BaseMetric):
    """Returns one of `SCORES` after the other, one for each validation."""

    step = 0

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(score=SCORES[Score.step // 2 - 1])


class Stop(Hook):
    """Raises where a run is to be cut off, and tells `Score` the step."""

    priority = "HIGHEST"

    def __init__(self, step: int = 0, during: str = "training") -> None:
        self.step, self.during = step, during

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if self.during == "training" and runner.iter == self.step:
            raise KeyboardInterrupt

    def before_val_epoch(self, runner: Runner) -> None:
        Score.step = runner.iter
        if self.during == "validation" and runner.iter == self.step:
            raise KeyboardInterrupt


def line_runner(
    work_dir: Path, stop: Stop | None = None, resume: bool = False, keep: int = 1, out_dir: Path | None = None
) -> Runner:
    """Returns a runner of eight steps of a linear model, with a checkpoint and a validation at every second."""
    forget_runs()
    safe_load.install()
    torch.manual_seed(0)
    data = dict(batch_size=1, num_workers=0, dataset=[torch.ones(1)] * 4)
    start = newest(str(work_dir))[0] if resume else None
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(data, sampler=dict(type="InfiniteSampler", shuffle=False)),
        val_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=8, val_interval=2),
        val_cfg=dict(),
        val_evaluator=[Score()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
            checkpoint=dict(
                type="SafeCheckpointHook",
                by_epoch=False,
                interval=2,
                out_dir=out_dir and str(out_dir),
                max_keep_ckpts=keep,
                save_best="score",
                rule="greater",
            ),
        ),
        custom_hooks=[stop or Stop(during="never")],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
        log_level="WARNING",
        load_from=start,
        resume=start is not None,
    )


def names(folder: Path) -> set[str]:
    """Returns the names of checkpoints, of the pointer, and of anything half written."""
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.endswith(".py")}


def last_of(work_dir: Path) -> str | None:
    """Returns the path of the last checkpoint, of a folder whose checkpoints are all whole."""
    path, _, broken = newest(str(work_dir))
    assert broken == []
    return path


def scores(work_dir: Path) -> dict[int, float]:
    rows = [
        json.loads(row)
        for file in work_dir.glob("*/vis_data/scalars.json")
        for row in file.read_text().split("\n")
        if row
    ]
    return {row["step"]: row["score"] for row in rows if "score" in row}
