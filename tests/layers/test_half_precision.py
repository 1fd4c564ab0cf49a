"""Tests that under autocast the fused cell adds little to the error that half-precision linear layers make anyway.

The reference of the bound is the same network whose cells compute in float32 between the two projections.
"""

from copy import deepcopy
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vil_dense.backbones import VisionLSTM, variant
from vil_dense.layers import fused
from vil_dense.ops.cell import convolve
from vil_dense.ops.operators import no_autocast

MOST = 1.33
"""Largest error, in parts of that with cells in float32. Measured: 1.00 to 1.29, and 1.35 with gates in bfloat16."""


def compute(network: nn.Module, x: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, list[Tensor]]:
    """Returns the output and the gradients of all parameters, in float64; under autocast if a dtype is given."""
    network.zero_grad()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        y = network(x)
    direction = torch.arange(y.numel(), dtype=torch.float64).sin().view(y.shape)
    (y.double() * direction).sum().backward()
    return y.detach().double(), [p.grad.double() for p in network.parameters() if p.grad is not None]


def errors(
    network: nn.Module, x: Tensor, dtype: torch.dtype, exact: tuple[Tensor, list[Tensor]]
) -> tuple[float, float]:
    """Returns the relative error of the output and the median relative error of the parameters' gradients."""
    y, gradients = compute(network, x, dtype)
    pairs = [(a, b) for a, b in zip(gradients, exact[1], strict=True) if b.norm() > 1e-9]
    assert len(pairs) > 20
    return float((y - exact[0]).norm() / exact[0].norm()), median(float((a - b).norm() / b.norm()) for a, b in pairs)


def cell_in_float32(up: Tensor, *args: Any) -> Tensor:
    """Computes a cell in float32, between two projections that follow autocast."""
    with no_autocast(up):
        return fused.cell(up.float(), *(x.float() if isinstance(x, Tensor) else x for x in args)).to(up.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["vil-tiny", "vil2-tiny"])
def test_half_precision_of_the_cell_adds_little(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = VisionLSTM(**{**variant(name), "depth": 4, "pooling": None})
    for parameter in network.parameters():  # gates whose initial weights are zero, too, depend on their input
        parameter.data += 0.02 * torch.randn_like(parameter)
    x = torch.randn(1, 3, 224, 224)
    exact = compute(deepcopy(network).double(), x.double(), None)
    ours = errors(network, x, dtype, exact)
    monkeypatch.setattr(fused, "cell_operator", cell_in_float32)
    reference = errors(network, x, dtype, exact)
    assert all(0 < error <= MOST * bound for error, bound in zip(ours, reference, strict=True)), (ours, reference)


@pytest.mark.parametrize("kernel", [(3, 3), (7,)])
def test_gradients_of_a_bfloat16_convolution_are_rounded_once(kernel: tuple[int, ...]) -> None:
    leaves = [x.bfloat16().requires_grad_() for x in (torch.randn(2, 14, 14, 64), torch.randn(64, 1, *kernel))]
    exact_leaves = [x.detach().double().requires_grad_() for x in leaves]
    y, exact_y = (convolve(u, weight, None) for u, weight in (leaves, exact_leaves))
    assert y.dtype == torch.bfloat16
    direction = torch.randn(y.shape, dtype=torch.bfloat16)
    gradients = torch.autograd.grad(y, leaves, direction)
    exact = torch.autograd.grad(exact_y, exact_leaves, direction.double())
    for gradient, reference in zip(gradients, exact, strict=True):
        assert (gradient.double() - reference).norm() <= 2**-8 * reference.norm()  # half a unit in the last place
