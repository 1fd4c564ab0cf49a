"""Cases of the mLSTM for several tests: backends, where they run, and gates of every kind."""

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor

from vil_dense.ops import BACKENDS, mlstm

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def triton_problem() -> str | None:
    """Returns why the backend triton cannot run here; None where it can."""
    if find_spec("triton") is None:
        return "the backend triton needs the package triton: pip install triton"
    if not INTERPRETED and not torch.cuda.is_available():
        return "the backend triton needs a GPU, or TRITON_INTERPRET=1 to run on the CPU"
    return None


PROBLEM = triton_problem()
TRITON = [pytest.mark.triton, pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))]
EVERY_BACKEND = [pytest.param(name, marks=TRITON) if name == "triton" else name for name in BACKENDS]
# The states of Triton's kernels are float32: ops/test_triton.py has its comparisons.
BACKENDS_FLOAT64 = [name for name in BACKENDS if name != "triton"]


def device_of(backend: str) -> str:
    return "cuda" if backend == "triton" and not INTERPRETED else "cpu"


def uniform(low: float, high: float, S: int) -> Tensor:
    return torch.empty(2, 2, S, dtype=torch.float64).uniform_(low, high)


def ramp(first: float, last: float, S: int) -> Tensor:
    return torch.linspace(first, last, S, dtype=torch.float64).expand(2, 2, S).clone()


# name: input gates, forget gates
GATES = {
    "mild": lambda S: (uniform(-1, 1, S), uniform(2, 6, S)),
    "forgetful": lambda S: (uniform(-1, 1, S), uniform(-8, -2, S)),
    "loud": lambda S: (uniform(-40, 40, S), uniform(-20, 20, S)),
    "quiet": lambda S: (uniform(-105, -95, S), uniform(0, 4, S)),
    # the past outweighs the present by more than exp can hold, and the other way round
    "fading": lambda S: (ramp(600, -600, S), uniform(4, 5, S)),
    "rising": lambda S: (ramp(-600, 600, S), uniform(4, 5, S)),
    "tied": lambda S: (torch.zeros(2, 2, S, dtype=torch.float64), torch.full((2, 2, S), 400.0, dtype=torch.float64)),
}


def hidden_states(inputs: list[Tensor], backend: str, **options: Any) -> Tensor:
    """Computes h where the backend runs; input and output are on the CPU."""
    return mlstm(*(x.to(device_of(backend)) for x in inputs), backend=backend, **options).cpu()


def values_and_gradients(inputs: list[Tensor], cotangent: Tensor, backend: str, **options: Any) -> list[Tensor]:
    """Returns h, and the gradients of q, k, v, i, f."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    h = hidden_states(leaves, backend, **options)
    return [h.detach(), *torch.autograd.grad(h, leaves, cotangent)]


def assert_linear_memory(cases: list[list[Tensor]], backend: str) -> None:
    """Asserts that peak live bytes per token, forward alone and in training, agree for q, k, v, i, f of all lengths."""
    per_token: dict[str, list[float]] = {"forward": [], "training": []}
    for case in cases:
        inputs = [x.to(device_of(backend)).requires_grad_() for x in case]
        with LiveMemory() as training:
            mlstm(*inputs, backend=backend).sum().backward()
        with torch.no_grad(), LiveMemory() as forward:
            mlstm(*inputs, backend=backend)
        per_token["training"].append(training.peak / case[0].shape[2])
        per_token["forward"].append(forward.peak / case[0].shape[2])
    for mode, values in per_token.items():
        assert max(values) <= 1.15 * min(values), f"{mode}: bytes per token {values}"
