"""The kernels compile for cards that are not here, spill no registers, and fit into the cards' shared memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlstm_cases import TRITON

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_kernels.py"
SHARED_LIMIT = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
CASES = [(80, 96, "bfloat16"), (80, 384, "bfloat16"), (89, 192, "float16"), (90, 96, "bfloat16"), (90, 192, "bfloat16")]
GATES = {"convolve", "activation_gradients", "convolve_gradients"}
"""Products with gates, which are float32, are in TF32 for half-precision inputs too."""

pytestmark = [TRITON[0], pytest.mark.slow]


def records(case: tuple[int, int, str]) -> list[dict[str, Any]]:
    """In a process of its own, without the interpreter: it would be in the way of the compiler."""
    import json

    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(TOOL), "--one", *map(str, case)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiles_without_spills(case: tuple[int, int, str]) -> None:
    pytest.importorskip("triton")
    found = records(case)
    assert {"hidden_states", "scan_gradients", "convolve"} <= {r["kernel"].split()[0] for r in found}
    for r in found:
        assert r["spilled"] == [0, 0], r
        assert r["shared"] <= SHARED_LIMIT[case[0]], r
        if r["kernel"].split()[0] not in GATES:
            assert all("tf32" not in kind for kind in r["mma"]), r
