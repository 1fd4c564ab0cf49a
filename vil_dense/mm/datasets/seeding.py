"""Seeds data and network so that a resumed run repeats the random numbers of an unbroken one.

MMEngine seeds each worker process once and stores no random states, so the augmentation of a picture depends on the
number of workers and on how often the run was stopped. The samplers below return keys: an index with the seed of the
run and the epoch. `SeedSample`, the first step of a pipeline, seeds Python and numpy from the key, so workers, ranks
and stops no longer matter. `StepSeedHook` seeds the random numbers of mixing and stochastic depth at each step.
"""

import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS, TRANSFORMS
from mmengine.runner import Runner


class SampleKey(int):
    """Stores the index of a sample together with the seed of the run and the epoch, counted from 0.

    MMEngine's `RepeatDataset` and `ConcatDataset` compute the index within a part by `%` and `-`; the result is a key
    that still knows the `origin`, the index within the whole, on which the random draws depend.
    """

    seed: int
    epoch: int
    origin: int

    def __new__(cls, index: int, seed: int = 0, epoch: int = 0, origin: int | None = None) -> "SampleKey":
        key = super().__new__(cls, index)
        key.seed, key.epoch, key.origin = seed, epoch, index if origin is None else origin
        return key

    def __mod__(self, length: int) -> "SampleKey":
        return SampleKey(int(self) % length, self.seed, self.epoch, self.origin)

    def __sub__(self, start: int) -> "SampleKey":
        return SampleKey(int(self) - start, self.seed, self.epoch, self.origin)


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """Returns a `SampleKey` for each index of MMEngine's `DefaultSampler` (for loops over epochs).

    The first `skip` indices of this process are left out of the next epoch, once.
    """

    skip = 0

    def __iter__(self) -> Iterator[SampleKey]:
        skip, self.skip = self.skip, 0
        return (SampleKey(index, self.seed, self.epoch) for index in islice(super().__iter__(), skip, None))


@DATA_SAMPLERS.register_module()
class KeyedInfiniteSampler(InfiniteSampler):
    """Returns a `SampleKey` for each index of MMEngine's `InfiniteSampler` (for loops over steps)."""

    def _infinite_indices(self) -> Iterator[SampleKey]:
        for position, index in enumerate(super()._infinite_indices()):
            yield SampleKey(index, self.seed, position // self.size)

    def skip(self, num_samples: int) -> None:
        """Skips the first `num_samples` indices of this process in the next pass; as in newer MMEngines."""
        self.indices = islice(self._indices_of_rank(), num_samples, None)


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds `random` and `numpy.random` from the key of the sample; has to be the first step of a pipeline.

    Raises:
        ValueError: the sampler gives no keys.
    """

    def transform(self, results: dict) -> dict:
        key = results.get("sample_idx")
        if not isinstance(key, SampleKey):
            raise ValueError(
                "SeedSample needs the keys of a KeyedSampler or KeyedInfiniteSampler, got a plain index; under a data "
                "set that hands on plain indices, such as ClassBalancedDataset, leave SeedSample out of the pipeline"
            )
        state = _entropy(key.seed, key.epoch, key.origin)
        random.seed(state)
        np.random.seed(state)
        return results


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds torch, numpy and Python before each training step from the seed of the run, the step and the rank."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        state = _entropy(runner.seed, runner.iter, get_rank())
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)


def _entropy(*numbers: int) -> int:
    """Returns 32 bits derived from all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
