"""Applies the LayerNorm before a block's branch on a GPU; the output has the dtype of the projection that follows."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vil_dense.ops.gpu.norm import norm_backward, norm_forward
from vil_dense.ops.operators import register


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> list[Tensor]:
    return norm_backward(gradient, None, x, weight, bias, eps)


norm_operator = register("norm", norm_forward, lambda x, *args: x.new_empty(x.shape, dtype=args[-1]), _gradients)
"""`gpu.norm.norm_forward` as one node for torch.compile."""


def norm_beside_residual(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns x and its norm, for a block x + branch(norm(x)): the backward pass adds both gradients in one launch.

    Within a graph of torch.compile the norm is an operator, and the gradients are added behind it.
    """
    if torch.compiler.is_compiling():
        return x, norm_operator(x, weight, bias, eps, dtype)
    return _NormBesideResidual.apply(x, weight, bias, eps, dtype)


class _NormBesideResidual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, bias)
        ctx.eps = eps
        return x.view_as(x), norm_forward(x, weight, bias, eps, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dx, dweight, *dbias = norm_backward(dy, dx, x, weight, bias, ctx.eps)
        return dx, dweight, dbias[0] if dbias else None, None, None
