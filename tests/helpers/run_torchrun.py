"""Runs scripts of the tests in two processes on CPUs, which torchrun starts and gloo connects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
NEEDS_GLOO = pytest.mark.skipif(not GLOO, reason="this torch was built without gloo; torch's own wheels have it")


def run_torchrun(*command: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs a script in two processes, from the root of the repository, and returns what they printed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers")])
    return subprocess.run(
        [*TORCHRUN, "2", *map(str, command)],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def lines_of_processes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Returns the printed lines `process N: ...`, sorted."""
    return sorted(line for line in done.stdout.splitlines() if line.startswith("process "))


def assert_both_processes_end(*command: object) -> None:
    """Runs a script in two processes, and asserts that each prints `process N: done` and none fails."""
    done = run_torchrun(*command, timeout=200)
    assert lines_of_processes(done) == ["process 0: done", "process 1: done"], done.stdout[-3000:] + done.stderr[-6000:]
    assert done.returncode == 0, done.stderr[-3000:]
