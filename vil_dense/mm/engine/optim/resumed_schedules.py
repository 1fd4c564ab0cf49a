"""Plans the learning rate of a resumed run with this run's settings if the checkpoint had different ones.

MMEngine restores the whole state of each scheduler. So a run that is resumed with more steps would keep the end of the
shorter run, and a run with a new learning rate would keep the old one.
"""

import warnings
from typing import Any, NamedTuple

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

COUNTERS = ("last_step", "_global_step", "_last_value", "verbose")
"""Keys of a scheduler's state that hold its position; all other keys are settings."""


class Schedules(NamedTuple):
    """Holds the settings of each scheduler of a run, taken before a checkpoint is loaded."""

    settings: list[dict[str, Any]]

    @classmethod
    def of(cls, runner: Runner) -> "Schedules | None":
        """Returns the settings of a runner's schedulers.

        None if there are no schedulers or several optimizers, or if a scheduler depends on metrics."""
        schedulers, single = runner.param_schedulers, isinstance(runner.optim_wrapper, OptimWrapper)
        if not schedulers or not single or any(getattr(part, "need_val_args", False) for part in schedulers):
            return None
        return cls([settings(part) for part in schedulers])

    def restore(self, runner: Runner) -> str:
        """Moves the schedulers to the runner's step with this run's settings if the checkpoint had different ones.

        Returns a line for the log, or an empty string if the settings are the same.
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
            f"schedule: follows the settings of this run, {changes[0]}; learning rate at step {runner.iter}: "
            f"{groups[0]['lr']:.4g}, with the checkpoint's settings {before:.4g}"
        )


def settings(scheduler: _ParamScheduler) -> dict[str, Any]:
    """Returns the state of a scheduler without its position."""
    return {key: value for key, value in scheduler.state_dict().items() if key not in COUNTERS}


def difference(scheduler: _ParamScheduler, own: dict[str, Any]) -> str:
    """Returns the first setting in which a restored scheduler differs from the run's own; empty if there is none."""
    restored = settings(scheduler)
    for key in sorted(own, key=lambda key: key != "end"):
        if restored.get(key) != own[key]:
            name, old, new = key, restored.get(key), own[key]
            if key == "base_values":
                name, old, new = "lr", *(f"{values[0]:.4g}" if values else None for values in (old, new))
            return f"{type(scheduler).__name__}.{name} {new} instead of {old}"
    return ""


def replay(schedulers: list[_ParamScheduler], runner: Runner) -> None:
    """Repeats the scheduler steps of all iterations and epochs that the runner has done, from the initial values."""
    loop = runner.train_loop
    length = len(runner.train_dataloader) if isinstance(loop, EpochBasedTrainLoop) else 0
    for scheduler in schedulers:
        scheduler.step()
    for step in range(1, runner.iter + 1):
        end_of_epoch = length and step % length == 0
        for scheduler in schedulers:
            if not scheduler.by_epoch or end_of_epoch:
                scheduler.step()
