"""The layer norm of a block's branch, which moves fewer bytes than torch's under mixed precision."""

import torch
from torch import Tensor

from vil_dense.ops.gpu.launches import launch
from vil_dense.ops.gpu.scan import power_of_two

ROWS = 4
STEPS = 32


def norm_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Normalises the last axis of x, (..., C); returns y in `dtype`, and stats for `norm_backward`."""
    x = x.contiguous()
    C = x.shape[-1]
    N = x.numel() // C
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    stats = torch.empty(2, N, device=x.device)
    launch(
        "norm_forward", (-(-N // ROWS),),
        x, weight, bias, y, stats, N, C, eps, BT=ROWS, WIDTH=power_of_two(C), num_warps=4,
    )  # fmt: skip
    return y, stats


def norm_backward(
    dy: Tensor, dresidual: Tensor | None, x: Tensor, weight: Tensor, stats: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of x, weight and bias.

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
        dy, None if dresidual is None else dresidual.contiguous(), x, weight, stats, dx, parts, N, C, STEPS,
        BT=ROWS, WIDTH=power_of_two(C), num_warps=4,
    )  # fmt: skip
    dweight, dbias = parts.sum(0).to(weight.dtype)
    return dx, dweight, dbias
