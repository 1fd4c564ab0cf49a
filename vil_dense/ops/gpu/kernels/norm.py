"""Applies the LayerNorm before a block's branch.

The output has the dtype of the projection that follows, and the backward pass adds the gradient of the residual, too.
"""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import cast, load_vector


@triton.jit
def normed_rows(x, at, mask, C, eps):
    """Loads rows; returns them normalised, float32, and their inverse deviations."""
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    value = tl.where(mask, value - (tl.sum(value, 1) / C)[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(value * value, 1) / C + eps)
    return value * deviation[:, None], deviation


@triton.jit
def norm_forward(x, weight, bias, y, N, C, eps, BT: tl.constexpr, WIDTH: tl.constexpr):
    """Normalises rows of x, (N, C)."""
    row = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    channel = tl.arange(0, WIDTH)
    mask = (row < N)[:, None] & (channel < C)[None, :]
    at = row[:, None] * C + channel[None, :]
    value, _ = normed_rows(x, at, mask, C, eps)
    value *= load_vector(weight, channel, channel < C)[None, :]
    value += load_vector(bias, channel, channel < C)[None, :]
    tl.store(y + at, cast(value, y.dtype.element_ty), mask=mask)


@triton.jit
def norm_gradients(dy, dresidual, x, weight, dx, parts, N, C, eps, STEPS, BT: tl.constexpr, WIDTH: tl.constexpr):
    """Computes the gradient of x, at STEPS tiles of rows: through the norm, and of the residual beside it.

    parts, (programs, 2, C): gradients of weight and bias.
    """
    channel = tl.arange(0, WIDTH)
    dweight = tl.zeros((BT, WIDTH), tl.float32)
    dbias = tl.zeros((BT, WIDTH), tl.float32)
    scale = load_vector(weight, channel, channel < C)[None, :]
    for step in range(STEPS):
        row = (tl.program_id(0).to(tl.int64) * STEPS + step) * BT + tl.arange(0, BT)
        mask = (row < N)[:, None] & (channel < C)[None, :]
        at = row[:, None] * C + channel[None, :]
        normed, deviation = normed_rows(x, at, mask, C, eps)
        dy_tile = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
        dweight += dy_tile * normed
        dbias += dy_tile
        dy_tile *= scale
        dvalue = dy_tile - tl.sum(dy_tile, 1)[:, None] / C - normed * (tl.sum(dy_tile * normed, 1) / C)[:, None]
        dvalue *= deviation[:, None]
        if dresidual is not None:
            dvalue += tl.load(dresidual + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(dx + at, cast(dvalue, dx.dtype.element_ty), mask=mask)
    out = parts + tl.program_id(0) * 2 * C + channel
    tl.store(out, tl.sum(dweight, 0), mask=channel < C)
    tl.store(out + C, tl.sum(dbias, 0), mask=channel < C)
