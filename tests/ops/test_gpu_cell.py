"""Tests that the fused cell equals its plain definition in float64, in values and in all gradients.

TRITON_INTERPRET=1 runs the kernels on the CPU. The interpreter rounds to bfloat16 towards 0, where a GPU rounds to the
nearest, and multiplies bfloat16 as if its bits were integers; the kernels widen such operands there.
"""

import math

import pytest
import torch
from cell_definition import cell, random_weights
from mlstm_cases import TRITON, device_of
from torch import Tensor

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.cell import cell_backward, cell_forward

pytestmark = TRITON
DEVICE = device_of("triton")
CANCELS = {"igate_bias"}
"""The norm behind h takes out what scales all of a sequence: this gradient is a small rest of large terms."""


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch) -> None:
    empty, empty_like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *sizes, **options: empty(*sizes, **options).fill_(math.nan))
    monkeypatch.setattr(torch, "empty_like", lambda x, **options: empty_like(x, **options).fill_(math.nan))


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    for name in ("WHOLE", "CHUNK", "WIDE_CHUNK"):
        monkeypatch.setattr(f"vil_dense.ops.gpu.plan.{name}", 64)


def assert_equals_definition(
    grid: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    B: int = 1,
    E: int = 64,
    causal: bool = False,
    reverse: bool = False,
    bias: bool = True,
    gate_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    bound: float = 3e-5,
) -> None:
    """Asserts equality within `bound` of the largest value of each tensor."""
    torch.manual_seed(sum(grid))
    weights = random_weights(E, kernel, bias, gate_scale)
    u, z = torch.randn(B, *grid, 2 * E).to(dtype).chunk(2, -1)
    dy = torch.randn(B, *grid, E).to(dtype)
    on_device = [x.to(DEVICE) for x in (u, z, dy)]
    kernel_weights = CellWeights(*(None if x is None else x.to(DEVICE) for x in weights))
    y, saved = cell_forward(*on_device[:2], kernel_weights, causal, reverse, 1e-6, True)
    assert saved is not None and y.dtype == dtype
    duz, gradients = cell_backward(on_device[2], *on_device[:2], kernel_weights, saved, causal, reverse, 1e-6)
    du, dz = duz.chunk(2, -1)

    inputs = [x.double().requires_grad_() for x in (u, z)]
    wide = CellWeights(*(None if x is None else x.double().requires_grad_() for x in weights))
    expected = cell(*inputs, wide, causal, reverse)
    leaves = {"u": inputs[0], "z": inputs[1]} | {k: x for k, x in wide._asdict().items() if x is not None}
    references = torch.autograd.grad(expected, list(leaves.values()), dy.double())
    ours: dict[str, Tensor] = {"u": du, "z": dz} | {k: x for k, x in gradients._asdict().items() if x is not None}
    assert ours.keys() == leaves.keys()
    close(y, expected.detach(), bound, "y")
    scale = max(x.abs().max().item() for x in references)
    for name, reference in zip(leaves, references, strict=True):
        close(ours[name], reference, bound, name, least=scale if name in CANCELS else 1e-2 * scale)


def close(actual: Tensor, expected: Tensor, bound: float, name: str, least: float = 0.0) -> None:
    scale = max(expected.abs().max().item(), least)
    difference = (actual.cpu().double() - expected).abs().max().item()
    assert difference <= bound * scale, f"{name}: off by {difference:.2e}, its largest value is {scale:.2e}"


@pytest.mark.parametrize("reverse", [False, True])
def test_grid_convolution(reverse: bool) -> None:
    assert_equals_definition((5, 7), (3, 3), B=2, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_several_chunks(reverse: bool, small_chunks: None) -> None:
    assert_equals_definition((9, 15), (3, 3), reverse=reverse)


def test_volume(small_chunks: None) -> None:
    assert_equals_definition((3, 5, 7), (3, 3, 3), E=80)


def test_larger_kernel() -> None:
    assert_equals_definition((4, 6), (5, 5))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_causal_convolution(reverse: bool, bias: bool) -> None:
    assert_equals_definition((5, 7), (4,), causal=True, reverse=reverse, bias=bias)


def test_one_token() -> None:
    assert_equals_definition((1, 1), (3, 3), B=3)
    assert_equals_definition((1,), (4,), causal=True)


def test_head_of_several_blocks(small_chunks: None) -> None:
    assert_equals_definition((7, 10), (3, 3), E=384)


def test_head_of_a_block_and_a_part(small_chunks: None) -> None:
    assert_equals_definition((5, 15), (3, 3), E=144)


def test_wide_blocks_in_half_precision() -> None:
    """Tests blocks so wide that the gradients of the map of v read its tiles in parts."""
    assert_equals_definition((3, 5), (3, 3), E=768, dtype=torch.float16, bound=2e-2)


@pytest.mark.parametrize("gate_scale", [30.0, 1000.0])
def test_extreme_gates(gate_scale: float, small_chunks: None) -> None:
    """Tests pre-activations far outside the range of exp: all is finite, and values agree."""
    torch.manual_seed(0)
    weights = random_weights(64, (3, 3), gate_scale=gate_scale)
    u, z = torch.randn(1, 9, 11, 128).chunk(2, -1)
    on_device = [x.to(DEVICE) for x in (u, z)]
    kernel_weights = CellWeights(*(None if x is None else x.to(DEVICE) for x in weights))
    y, saved = cell_forward(*on_device, kernel_weights, False, True, 1e-6, True)
    assert saved is not None
    duz, gradients = cell_backward(torch.ones_like(y), *on_device, kernel_weights, saved, False, True, 1e-6)
    wide = CellWeights(*(None if x is None else x.double() for x in weights))
    close(y, cell(u.double(), z.double(), wide, False, True), 1e-3, "y")
    assert all(x.isfinite().all() for x in (duz, *gradients) if x is not None)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 6e-2), (torch.float16, 2e-2)])
def test_half_precision(dtype: torch.dtype, bound: float, small_chunks: None) -> None:
    assert_equals_definition((9, 11), (3, 3), dtype=dtype, bound=bound)


def test_without_save_only_y_is_kept() -> None:
    weights = CellWeights(*(None if x is None else x.to(DEVICE) for x in random_weights(64, (3, 3))))
    u, z = torch.randn(1, 3, 5, 128, device=DEVICE).chunk(2, -1)
    y, saved = cell_forward(u, z, weights, False, False, 1e-6, False)
    assert saved is None
    assert torch.equal(y, cell_forward(u, z, weights, False, False, 1e-6, True)[0])
