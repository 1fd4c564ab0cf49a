"""FSDP2 and DDP by torch's own calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = pytest.mark.skipif(not GLOO, reason="this torch has no gloo")


FAST = [("fsdp", "v2"), ("ddp", "v1")]
SLOW = [("fsdp", "v1"), ("ddp", "v2"), ("fsdp", "v2-3d"), ("ddp", "v2-3d")]


@pytest.mark.parametrize(("kind", "name"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_two_processes_equal_one(kind: str, name: str) -> None:
    """Tests outputs, gradients and weights of three steps; see `shard_two.py`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*command, "tests/citizen/shard_two.py", kind, name],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    said = sorted(line for line in done.stdout.splitlines() if line.startswith("process "))
    assert said == ["process 0: done", "process 1: done"], done.stdout[-3000:] + done.stderr[-6000:]
    assert done.returncode == 0, done.stderr[-3000:]
