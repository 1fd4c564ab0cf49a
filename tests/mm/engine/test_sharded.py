"""Sharded models: evaluations of different lengths, the best checkpoint, state dicts, units, a fault in one part."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_torchrun import NEEDS_GLOO, assert_both_processes_end
from torch.distributed.fsdp import FSDPModule

from vil_dense.mm import ImageClassifier
from vil_dense.mm.engine.distributed import shard

pytestmark = NEEDS_GLOO


@pytest.mark.parametrize("what", ["evaluation", "parts"])
def test_two_processes_do_not_wait_in_vain(what: str, tmp_path: Path):
    """Runs `sharded.py`."""
    assert_both_processes_end("tests/mm/engine/sharded.py", what, tmp_path)


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    yield
    torch.distributed.destroy_process_group()


def test_each_block_of_a_classifier_is_sharded_by_itself(alone: None):
    model = shard(ImageClassifier(dim=32, depth=3, grid=(1, 1), num_classes=3))
    units = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    assert units == ["", "net.blocks.0", "net.blocks.1", "net.blocks.2"]
