"""Schedules the learning rate of the ImageNet recipes: linear warm-up, then a cosine down to an absolute value."""

import math
from typing import Any

from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def rate_at(step: int, peak: float, warmup: int, total: int, end: float) -> float:
    """Returns the learning rate of update `step` of `total`, counted from 0.

    peak * (s + 1) / (W + 1) for s < W, then end + (peak - end) * (1 + cos(pi * (s - W) / (T - W - 1))) / 2: update W
    has the peak, the last one `end`.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup - 1, 1), 1.0)
    return end + (peak - end) * (1 + math.cos(math.pi * progress)) / 2


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Sets `rate_at` for every parameter group, in closed form: a resumed run needs only the step.

    Args:
        warmup: updates, or epochs if the config has `by_epoch=True, convert_to_iter_based=True`.
        end: length of the run in the same unit; MMEngine takes it from the train loop.
        eta_min: rate of the last update, absolute: scaling the peak by the batch size does not change it.

    Raises:
        ValueError: the warm-up is not shorter than the run.
    """

    def __init__(self, optimizer: Any, *, warmup: int, end: int = INF, eta_min: float = 1e-6, **kwargs: Any) -> None:
        if not 0 <= warmup < end:
            raise ValueError(f"the warm-up of {warmup} has to be shorter than the run of {end}")
        self.warmup, self.eta_min = warmup, eta_min
        super().__init__(optimizer, param_name="lr", end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, warmup: int, end: int, epoch_length: int, by_epoch: bool = True, **kwargs: Any
    ) -> "WarmupCosineLR":
        """Builds the schedule from numbers of epochs in place of updates."""
        return cls(*args, warmup=warmup * epoch_length, end=end * epoch_length, by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        return [rate_at(self.last_step, peak, self.warmup, self.end, self.eta_min) for peak in self.base_values]
