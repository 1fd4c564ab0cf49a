"""Computes linear maps, in float32 on a CPU of AMD with AVX-512 by oneDNN in place of MKL."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes `torch.nn.functional.linear` of (..., C) by a weight (K, C): (..., K), the same to rounding.

    torch multiplies float32 matrices by MKL, which took 2.2 times as long as oneDNN on a CPU of AMD with AVX-512, and
    0.85 to 1.03 times as long on one with AVX2 alone. oneDNN computes torch's convolutions, so the tokens are given to
    it as the pixels of a picture. Other CPUs have not been measured: there it is torch's own.
    """
    return _ByOneDNN.apply(x, weight, bias) if _suits_onednn(x, weight) else F.linear(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    """Returns whether both are plain float32 tensors of a CPU that no compiler records, and autocast is off."""
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    if not plain or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return mkl_is_slow() and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


@cache
def mkl_is_slow() -> bool:
    """Returns whether the CPU is one of AMD with AVX-512, as Linux says; False on other systems."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in described and "avx512f" in described


class _ByOneDNN(torch.autograd.Function):
    """Computes both passes by oneDNN: torch's own backward pass of such a convolution goes back to MKL."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        pixels = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        y = torch.mkldnn_convolution(pixels, weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        tokens, gradients = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        dweight = None
        if of_weight:  # the longer side as pixels, which takes half of the time
            wide = len(weight) >= weight.shape[1]
            dweight = linear(gradients.mT, tokens.mT) if wide else linear(tokens.mT, gradients.mT).mT
        dbias = gradients.sum(0) if ctx.has_bias and of_bias else None
        return linear(gradient, weight.mT) if of_x else None, dweight, dbias


@register_flop_formula(torch.ops.aten.mkldnn_convolution)
def _count_flops(x: list[int], weight: list[int], *args: Any, out_shape: list[int], **kwargs: Any) -> int:
    """Returns the FLOPs for torch's FlopCounterMode, which does not know this operator."""
    return conv_flop_count(x, weight, out_shape)
