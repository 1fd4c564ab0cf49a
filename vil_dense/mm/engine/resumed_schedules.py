"""Plans the learning rate of a resumed run for its own numbers, where the checkpoint's were others.

MMEngine restores each scheduler whole, so a run that goes on with more steps would keep the end of the shorter one, and
one with another learning rate the old rate.
"""

import warnings
from typing import Any, NamedTuple

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

COUNTERS = ("last_step", "_global_step", "_last_value", "verbose")
"""The state of a scheduler that says where it stands; all else says what it does."""


class Schedules(NamedTuple):
    """Holds what the schedulers of a run do, before a checkpoint is loaded: of each its state without counters."""

    settings: list[dict[str, Any]]

    @classmethod
    def of(cls, runner: Runner) -> "Schedules | None":
        """Returns those of a runner; None without any, for several optimizers, or if one depends on metrics."""
        schedulers, single = runner.param_schedulers, isinstance(runner.optim_wrapper, OptimWrapper)
        if not schedulers or not single or any(getattr(part, "need_val_args", False) for part in schedulers):
            return None
        return cls([settings(part) for part in schedulers])

    def restore(self, runner: Runner) -> str:
        """Moves the schedulers to the step of the runner by their own numbers if the checkpoint brought others.

        Returns a line for the log, or an empty string where the numbers are the same.
        """
        schedulers, groups = runner.param_schedulers, runner.optim_wrapper.param_groups
        changes = [change for pair in zip(schedulers, self.settings, strict=True) if (change := difference(*pair))]
        if not changes:
            return ""
        before = groups[0]["lr"]
        for scheduler, own in zip(schedulers, self.settings, strict=True):
            scheduler.load_state_dict({**own, "last_step": -1, "_global_step": -1})
            for group, value in zip(groups, own["base_values"], strict=True):
                group[f"initial_{scheduler.param_name}"] = group[scheduler.param_name] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MMEngine expects a step of the optimizer between two of the schedule
            replay(schedulers, runner)
        return (
            f"schedule: planned anew for this run, {changes[0]}; learning rate at step {runner.iter}: "
            f"{groups[0]['lr']:.4g}, by the checkpoint's plan {before:.4g}"
        )


def settings(scheduler: _ParamScheduler) -> dict[str, Any]:
    """Returns what a scheduler does, without where it stands."""
    return {key: value for key, value in scheduler.state_dict().items() if key not in COUNTERS}


def difference(scheduler: _ParamScheduler, own: dict[str, Any]) -> str:
    """Returns the first number in which a restored scheduler differs from the run's own; empty if there is none."""
    restored = settings(scheduler)
    for key in sorted(own, key=lambda key: key != "end"):
        if restored.get(key) != own[key]:
            name, old, new = key, restored.get(key), own[key]
            if key == "base_values":
                name, old, new = "lr", *(f"{values[0]:.4g}" if values else None for values in (old, new))
            return f"{type(scheduler).__name__}.{name} {new} instead of {old}"
    return ""


def replay(schedulers: list[_ParamScheduler], runner: Runner) -> None:
    """Takes the schedulers through the steps and epochs that the runner has done, from their first values on."""
    loop = runner.train_loop
    length = len(runner.train_dataloader) if isinstance(loop, EpochBasedTrainLoop) else 0
    for scheduler in schedulers:
        scheduler.step()
    for step in range(1, runner.iter + 1):
        end_of_epoch = length and step % length == 0
        for scheduler in schedulers:
            if not scheduler.by_epoch or end_of_epoch:
                scheduler.step()
