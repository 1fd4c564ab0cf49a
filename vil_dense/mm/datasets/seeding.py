"""Randomness that a stopped and resumed run repeats: keyed by sample in the data, by step in the network.

MMEngine seeds each worker process once and stores no random states, so what a picture gets depends on how many workers
there are and how often the run was stopped. Here a sampler hands out keys, an index with the run's seed and the pass
over the data; `SeedSample`, the first step of a pipeline, seeds Python and numpy from it. Workers, ranks and stops no
longer matter. `StepSeedHook` does the same for what is drawn on the way through the network: mixing, stochastic depth.
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
    """The index of a sample that knows the run's seed and how often the data were passed through before."""

    seed: int
    epoch: int

    def __new__(cls, index: int, seed: int = 0, epoch: int = 0) -> "SampleKey":
        key = super().__new__(cls, index)
        key.seed, key.epoch = seed, epoch
        return key


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """MMEngine's `DefaultSampler` (for loops over epochs) with a `SampleKey` for each index.

    The first `skip` indices of this process are left out of the next pass, once.
    """

    skip = 0

    def __iter__(self) -> Iterator[SampleKey]:
        skip, self.skip = self.skip, 0
        return (SampleKey(index, self.seed, self.epoch) for index in islice(super().__iter__(), skip, None))


@DATA_SAMPLERS.register_module()
class KeyedInfiniteSampler(InfiniteSampler):
    """MMEngine's `InfiniteSampler` (for loops over steps) with a `SampleKey` for each index."""

    def _infinite_indices(self) -> Iterator[SampleKey]:
        for position, index in enumerate(super()._infinite_indices()):
            yield SampleKey(index, self.seed, position // self.size)

    def skip(self, num_samples: int) -> None:
        """The next pass leaves out so many indices of this process from the beginning; as in newer MMEngines."""
        self.indices = islice(self._indices_of_rank(), num_samples, None)


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seeds `random` and `numpy.random` from the sample's key; the first step of a pipeline.

    Raises:
        ValueError: the sampler gives no keys.
    """

    def transform(self, results: dict) -> dict:
        key = results.get("sample_idx")
        if not isinstance(key, SampleKey):
            raise ValueError("SeedSample needs the keys of a KeyedSampler or KeyedInfiniteSampler, got a plain index")
        state = _entropy(key.seed, key.epoch, int(key))
        random.seed(state)
        np.random.seed(state)
        return results


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Before each training step: torch, numpy and Python seeded from the run's seed, the step and the rank."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        state = _entropy(runner.seed, runner.iter, get_rank())
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)


def _entropy(*numbers: int) -> int:
    """32 bits that differ wherever one of the numbers does."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
