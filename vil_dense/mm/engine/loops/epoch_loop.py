"""Runs epochs and resumes within an epoch."""

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from vil_dense.mm.datasets.seeding import KeyedSampler

SAMPLES_READ = "samples_read"
"""Key in MMEngine's message hub: samples of an unfinished epoch that all processes together have read."""


@LOOPS.register_module()
class EpochLoop(EpochBasedTrainLoop):
    """Runs MMEngine's loop over epochs and can resume within an epoch without reading its samples again.

    With another batch size or number of processes it resumes at the nearest whole batch before.

    Raises:
        ValueError: the sampler is not a `KeyedSampler`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.dataloader.sampler, KeyedSampler):
            raise ValueError(f"an EpochLoop needs a KeyedSampler, got a {type(self.dataloader.sampler).__name__}")

    def run_epoch(self) -> None:
        hub, batch_size = self.runner.message_hub, self.dataloader.batch_size
        done = hub.runtime_info.get(SAMPLES_READ, 0) // (batch_size * self.runner.world_size)
        hub.update_info(SAMPLES_READ, 0)
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        self.dataloader.sampler.skip = done * batch_size
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
