"""A loop over epochs that can go on within one."""

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from vil_dense.mm.datasets.seeding import KeyedSampler

SAMPLES_READ = "samples_read"
"""In MMEngine's message hub: of a checkpoint within an epoch, samples of it that all processes have read."""


@LOOPS.register_module()
class EpochLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, which can also go on within one: what was read before is not read again.

    With another batch size or number of processes it goes on at the nearest whole batch before.

    Raises:
        ValueError: the sampler is no `KeyedSampler`.
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
