"""Tests that a loop over steps goes on without reading again, and starts loaders late, in MMEngine 0.10 too."""

from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler
from vil_dense.mm.engine.loops.step_loop import ResumedBatches, start_at_step


class Read(list):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__(range(10))
        self.seen: list[int] = []

    def __getitem__(self, index: int) -> int:
        self.seen.append(int(index))
        return int(index)


class Eager:
    """Begins the iterator with the loop, as MMEngine 0.10 does."""

    def __init__(self, loader: DataLoader) -> None:
        self._iterator = iter(loader)


def loader(data: Read) -> DataLoader:
    return DataLoader(data, batch_size=3, sampler=KeyedInfiniteSampler(data, seed=1), collate_fn=list)


def loop_of(batches: DataLoader, done: int) -> IterBasedTrainLoop:
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop.dataloader, loop._iter, loop.dataloader_iterator = batches, done, Eager(batches)
    return loop


def test_it_goes_on_without_reading_again():
    whole = iter(loader(Read()))
    expected = [next(whole) for _ in range(9)]
    data = Read()
    batches = loader(data)
    next(iter(batches.sampler))  # what an eager loader process takes away
    loop = loop_of(batches, done=4)
    start_at_step(loop)
    assert isinstance(loop.dataloader_iterator, ResumedBatches)
    found = [next(loop.dataloader_iterator) for _ in range(9)]
    assert found == [None] * 4 + expected[4:]
    assert data.seen == [index for batch in expected[4:] for index in batch]


def test_other_samplers_and_newer_loops_stay_as_they_are():
    data = Read()
    plain = loop_of(DataLoader(data, batch_size=3), done=0)
    newer = loop_of(loader(data), done=0)
    newer.dataloader_iterator.skip_iter = lambda number: None
    for loop in (plain, newer):
        start_at_step(loop)
        assert isinstance(loop.dataloader_iterator, Eager)
