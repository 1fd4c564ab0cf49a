"""Tests that what a sample gets depends on the seed, the pass and the sample; on no worker, rank or stop."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATA_SAMPLERS
from refusals import raises_one_line
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler, KeyedSampler, SeedSample, StepSeedHook


class Draws(BaseDataset):
    """Gives each sample its index and two random numbers."""

    def load_data_list(self) -> list[dict]:
        return [dict() for _ in range(12)]


def draw(results: dict) -> torch.Tensor:
    return torch.tensor([int(results["sample_idx"]), np.random.random(), random.random()], dtype=torch.float64)


def loaded(workers: int, batch_size: int = 3, epochs: int = 2, kind: str = "KeyedSampler") -> list[torch.Tensor]:
    """Returns rows (index, draw, draw) of each epoch, sorted by index."""
    dataset = Draws(pipeline=[SeedSample(), draw])
    sampler = DATA_SAMPLERS.build(dict(type=kind, dataset=dataset, seed=5))
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    rows = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        rows.append(torch.cat(list(loader)))
    return [row[row[:, 0].argsort()] for row in rows]


def test_draws_follow_the_sample_and_the_epoch():
    expected = loaded(workers=0)
    assert expected[0].unique().numel() >= 24 and (expected[0][:, 1:] != expected[1][:, 1:]).all()
    for other in (loaded(workers=2), loaded(workers=0, batch_size=5)):
        torch.testing.assert_close(other, expected, rtol=0, atol=0)


def test_endless_sampler_counts_passes():
    sampler = KeyedInfiniteSampler(range(4), seed=3)
    stream = iter(sampler)
    keys = [next(stream) for _ in range(12)]
    assert [key.epoch for key in keys] == [0] * 4 + [1] * 4 + [2] * 4 and {key.seed for key in keys} == {3}
    assert all(sorted(keys[n : n + 4]) == [0, 1, 2, 3] for n in (0, 4, 8))
    resumed = KeyedInfiniteSampler(range(4), seed=3)
    resumed.skip(6)
    assert [(int(key), key.epoch) for key, _ in zip(resumed, range(6), strict=False)] == [
        (int(key), key.epoch) for key in keys[6:]
    ]


def test_order_is_mmengine_s_own():
    sampler = KeyedSampler(range(10), seed=1)
    generator = torch.Generator().manual_seed(1)
    assert list(sampler) == torch.randperm(10, generator=generator).tolist()


def test_plain_indices_are_refused():
    dataset = Draws(pipeline=[SeedSample(), draw])
    with raises_one_line(ValueError, "SeedSample", "KeyedSampler"):
        dataset[0]


def test_steps_repeat():
    class Run:
        seed, iter = 0, 7

    def numbers() -> list[float]:
        StepSeedHook().before_train_iter(Run(), 0)
        return [torch.rand(()).item(), np.random.random(), random.random()]

    first = numbers()
    torch.rand(5)
    assert numbers() == first
    Run.iter = 8
    assert all(now != then for now, then in zip(numbers(), first, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: RepeatDataset(data, 3),
        lambda data: ConcatDataset([data, Draws(pipeline=[SeedSample(), draw])]),
    ],
    ids=["repeat", "concat"],
)
def test_wrapped_data_sets_draw_anew_for_each_entry(wrap: Callable, workers: int) -> None:
    dataset = wrap(Draws(pipeline=[SeedSample(), draw]))
    sampler = KeyedSampler(dataset, seed=5)
    rows = torch.cat(list(DataLoader(dataset, 5, sampler=sampler, num_workers=workers)))
    assert len(rows) == len(dataset) == len(rows[:, 1].unique())
    again = torch.cat(list(DataLoader(dataset, 5, sampler=KeyedSampler(dataset, seed=5))))
    assert torch.equal(rows, again)


def test_a_wrapper_that_hands_on_plain_indices_is_named() -> None:
    class Balanced(Draws):
        def get_cat_ids(self, index: int) -> list[int]:
            return [0]

    dataset = ClassBalancedDataset(Balanced(pipeline=[SeedSample(), draw]), oversample_thr=0.1)
    with pytest.raises(ValueError, match="ClassBalancedDataset"):
        dataset[next(iter(KeyedSampler(dataset, seed=5)))]
