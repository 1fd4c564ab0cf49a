"""Applies the LayerNorm before a block's branch, and moves fewer bytes than torch does under mixed precision."""

import torch
from torch import Tensor

from vil_dense.ops.gpu.launches import launch
from vil_dense.ops.gpu.scan import power_of_two

ROWS = 4
STEPS = 32


def norm_forward(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype) -> Tensor:
    """Normalises the last axis of x, (..., C), in float32; returns it in `dtype`."""
    x = x.contiguous()
    C = x.shape[-1]
    N = x.numel() // C
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    launch(
        "norm_forward", (-(-N // ROWS),),
        x, weight, bias, y, N, C, eps, BT=ROWS, WIDTH=power_of_two(C), num_warps=4,
    )  # fmt: skip
    return y


def norm_backward(
    dy: Tensor, dresidual: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> list[Tensor]:
    """Computes the gradients of x, weight and, where there is one, bias.

    Args:
        dresidual: in a block x + branch(norm(x)), the gradient of the first x, which is added; or None.
    """
    dy, x = dy.contiguous(), x.contiguous()
    C = x.shape[-1]
    N = x.numel() // C
    programs = -(-N // (ROWS * STEPS))
    dx = torch.empty_like(x)
    parts = torch.empty(programs, 2, C, device=x.device)
    launch(
        "norm_gradients", (programs,),
        dy, None if dresidual is None else dresidual.contiguous(), x, weight, dx, parts, N, C, eps, STEPS,
        BT=ROWS, WIDTH=power_of_two(C), num_warps=4,
    )  # fmt: skip
    dweight, dbias = parts.sum(0)
    return [dx, dweight.to(weight.dtype)] + ([] if bias is None else [dbias.to(bias.dtype)])
