"""Tests FSDP2 and DDP by torch's own calls."""

import pytest
from run_torchrun import NEEDS_GLOO, assert_both_processes_end

pytestmark = NEEDS_GLOO
FAST = [("fsdp", "v2"), ("ddp", "v1")]
SLOW = [("fsdp", "v1"), ("ddp", "v2"), ("fsdp", "v2-3d"), ("ddp", "v2-3d")]


@pytest.mark.parametrize(("kind", "name"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_two_processes_equal_one(kind: str, name: str) -> None:
    """Tests outputs, gradients and weights of three steps; see `shard_two.py`."""
    assert_both_processes_end("tests/citizen/shard_two.py", kind, name)
