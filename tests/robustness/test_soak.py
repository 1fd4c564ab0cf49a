"""Tests the soak's figures: growth is found, noise is not, workers count."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import raises_one_line

SOAK = runpy.run_path(str(Path(__file__).parents[2] / "tools/robustness/soak.py"))
HOUR = np.arange(0, 3600, 5.0)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 8, HOUR.size)


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_is_found_in_noise(seed: int):
    leak = SOAK["growth"](HOUR, 900 + 60 * HOUR / 3600 + noise(seed))
    assert leak.beyond_noise and leak.slope == pytest.approx(60, abs=4 * leak.error) and leak.error < 10


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_the_start_are_no_leak(seed: int):
    start = 300 * np.exp(-HOUR / 120)  # a process that has yet to fill its caches
    assert not SOAK["growth"](HOUR, 900 - start + noise(seed)).beyond_noise


def test_few_samples_are_refused():
    with raises_one_line(ValueError, "12", "50"):
        SOAK["growth"](HOUR[:12], HOUR[:12])


def test_what_a_process_and_its_children_hold():
    alone = SOAK["held"](os.getpid())
    code = "x = bytearray(b'1') * 2**26; print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        both = SOAK["held"](os.getpid())
        child.stdin.write(b"\n")
        child.stdin.close()
    assert 60 < both - alone < 90
