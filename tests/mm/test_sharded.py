"""Sharded models: evaluations of different lengths, the best checkpoint, state dicts, units, a fault in one part."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from vil_dense.mm import ImageClassifier
from vil_dense.mm.distributed import shard

ROOT = Path(__file__).parents[2]
GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = pytest.mark.skipif(not GLOO, reason="this torch has no gloo")


@pytest.mark.parametrize("what", ["evaluation", "parts"])
def test_two_processes_do_not_wait_in_vain(what: str, tmp_path: Path):
    """See `sharded.py`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "tests/mm/sharded.py", what, str(tmp_path)],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    said = sorted(line for line in done.stdout.splitlines() if line.startswith("process "))
    assert said == ["process 0: done", "process 1: done"], done.stdout[-3000:] + done.stderr[-6000:]
    assert done.returncode == 0, done.stderr[-3000:]


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
