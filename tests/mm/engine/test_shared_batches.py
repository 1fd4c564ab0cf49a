"""Tests that a loader process that cannot hand over its batch ends the run with an error; torch would wait for ever."""

import multiprocessing
import resource
from pathlib import Path

import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from refusals import raises_one_line
from torch.utils.data import DataLoader

from vil_dense.mm.engine.quiet_runner import QuietRunner
from vil_dense.mm.engine.shared_batches import share_batches

FULL = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"


class Samples:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        sample = BaseDataElement(mask=PixelData(data=torch.full((1, 2, 3), index)), empty=torch.zeros(0))
        return dict(inputs=torch.full((3, 2), float(index)), data_samples=sample, name=Path(str(index)))


def as_they_are(samples: list) -> list:
    return samples


def test_every_tensor_of_a_batch_is_shared_and_arrives() -> None:
    loader = share_batches(DataLoader(Samples(), 2, num_workers=1, collate_fn=as_they_are))
    found = [sample for batch in loader for sample in batch]
    assert [int(sample["inputs"].mean()) for sample in found] == [0, 1, 2, 3]
    assert [sample["name"] for sample in found] == [Path(str(n)) for n in range(4)]
    made = loader.collate_fn([Samples()[1]])[0]
    assert made["inputs"].is_shared() and made["data_samples"].mask.data.is_shared()


def test_a_full_shared_memory_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: torch.Tensor) -> None:
        raise RuntimeError(FULL)

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)  # inherited by the process, which is forked
    config = dict(
        dataset=Samples(), batch_size=2, num_workers=1, sampler=dict(type="DefaultSampler", shuffle=False), timeout=60
    )
    with pytest.raises(RuntimeError) as error:
        list(QuietRunner.build_dataloader(config))
    assert FULL in str(error.value)


def test_a_system_without_shared_memory_or_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = DataLoader(Samples())
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda kind: (20, 20))
        with raises_one_line(ValueError, "open files", "20", "ulimit -n", "num_workers=0"):
            share_batches(DataLoader(Samples(), num_workers=1))
        assert share_batches(alone) is alone

    def fail() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing, "Lock", fail)
    with raises_one_line(ValueError, "/dev/shm", "Read-only file system", "num_workers=0"):
        share_batches(DataLoader(Samples(), num_workers=1))
    assert share_batches(alone) is alone
