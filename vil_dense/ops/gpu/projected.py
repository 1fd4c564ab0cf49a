"""Joins the fused cell to `ops.cell`, whose backend `triton` it is: u and z side by side, and the down-projection."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.cell import Saved, cell_backward, cell_forward
from vil_dense.ops.gpu.launches import require_gpu
from vil_dense.ops.mlstm import EPS


def cell_triton(up: Tensor, weights: CellWeights, reverse: bool) -> Tensor:
    """Computes the gated output of a traversal, (B, *grid, E); see `ops.cell.cell`. It has no second derivative.

    What the backward pass reads is saved only where there will be one.

    Raises:
        ValueError: another dtype than float32, bfloat16 or float16, or tensors on the CPU outside Triton's interpreter.
        ImportError: triton is not installed.
    """
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (up, *weights)):
        return _Cell.apply(up, reverse, *weights)
    return _forward(up, weights, reverse, save=False)[0]


def cell_triton_gradients(
    gradient: Tensor, up: Tensor, weights: CellWeights, down: Tensor | None, down_bias: Tensor | None, reverse: bool
) -> list[Tensor]:
    """Returns the gradients of `up` and all parameters that are not None, in order; the cell is computed again.

    gradient: of the gated output or, where `down` is given, of its projection.
    """
    y, saved = _forward(up, weights, reverse, save=True)
    projection = []
    if down is not None:
        tokens = gradient.flatten(0, -2)
        projection.append((tokens.mT @ y.flatten(0, -2)).to(down.dtype))
        if down_bias is not None:
            projection.append(tokens.sum(0).to(down_bias.dtype))
        gradient = gradient @ down.to(gradient.dtype)
    dup, gradients = _backward(gradient, up, weights, saved, reverse)
    return [dup, *(x for x in gradients if x is not None), *projection]


class _Cell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, up: Tensor, reverse: bool, *weights: Tensor | None) -> Tensor:
        y, saved = _forward(up, CellWeights(*weights), reverse, save=True)  # type: ignore[arg-type]
        ctx.save_for_backward(up, *weights, *saved)
        ctx.reverse = reverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        up, *tensors = ctx.saved_tensors
        weights, saved = CellWeights(*tensors[: len(CellWeights._fields)]), Saved(*tensors[len(CellWeights._fields) :])
        dup, gradients = _backward(dy, up, weights, saved, ctx.reverse)
        return dup, None, *gradients


def _forward(up: Tensor, weights: CellWeights, reverse: bool, save: bool) -> tuple[Tensor, Any]:
    require_gpu(up)
    u, z = up.chunk(2, -1)
    return cell_forward(u, z, _contiguous(weights), _is_causal(weights), reverse, EPS, save)


def _backward(dy: Tensor, up: Tensor, weights: CellWeights, saved: Saved, reverse: bool) -> tuple[Tensor, CellWeights]:
    u, z = up.chunk(2, -1)
    return cell_backward(dy, u, z, _contiguous(weights), saved, _is_causal(weights), reverse, EPS)


def _is_causal(weights: CellWeights) -> bool:
    return weights.conv.ndim == 3


def _contiguous(weights: CellWeights) -> CellWeights:
    """Copies what kernels could not read as it lies in memory; a convolution of another traversal is a view."""
    return CellWeights(*(None if x is None else x.contiguous() for x in weights))  # type: ignore[arg-type]
