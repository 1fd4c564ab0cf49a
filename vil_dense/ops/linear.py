"""Computes linear maps, in float32 on a CPU by oneDNN in place of MKL."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Computes `torch.nn.functional.linear` of (..., C) by a weight (K, C): (..., K), the same to rounding.

    torch multiplies float32 matrices by MKL, which uses half of the width of the registers on CPUs of AMD. oneDNN,
    which torch takes for convolutions, uses all of it; so the tokens are given to it as the pixels of a picture.
    """
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    pixels = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    y = torch.mkldnn_convolution(pixels, weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Returns whether both are plain float32 tensors of a CPU that nobody records, and autocast is off."""
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    if not plain or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


@register_flop_formula(torch.ops.aten.mkldnn_convolution)
def _count_flops(x: list[int], weight: list[int], *args: Any, out_shape: list[int], **kwargs: Any) -> int:
    """Returns the FLOPs for torch's FlopCounterMode, which does not know this operator."""
    return conv_flop_count(x, weight, out_shape)
