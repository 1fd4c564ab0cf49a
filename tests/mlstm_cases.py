"""Cases for tests of the mLSTM: its backends, where they run, and gates of every kind."""

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from vil_dense.ops import BACKENDS, mlstm

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def triton_problem() -> str | None:
    """Returns why the backend triton cannot run here, or None where it can."""
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
    """Computes h where the backend runs, from inputs on the CPU; returns it on the CPU."""
    return mlstm(*(x.to(device_of(backend)) for x in inputs), backend=backend, **options).cpu()


def values_and_gradients(inputs: list[Tensor], cotangent: Tensor, backend: str, **options: Any) -> list[Tensor]:
    """Computes h, and the gradients of q, k, v, i, f."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    h = hidden_states(leaves, backend, **options)
    return [h.detach(), *torch.autograd.grad(h, leaves, cotangent)]
