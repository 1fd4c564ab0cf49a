"""Kernels of the layer norm before a block's branch: it puts out what the projection reads, and adds the residual's
gradient to its own."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import cast, load_vector


@triton.jit
def norm_forward(x, weight, bias, y, stats, N, C, eps, BT: tl.constexpr, WIDTH: tl.constexpr):
    """Normalises rows of x, (N, C). stats, (2, N): mean and inverse deviation."""
    row = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    channel = tl.arange(0, WIDTH)
    mask = (row < N)[:, None] & (channel < C)[None, :]
    at = row[:, None] * C + channel[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(value, 1) / C
    value = tl.where(mask, value - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(value * value, 1) / C + eps)
    value *= deviation[:, None] * load_vector(weight, channel, channel < C)[None, :]
    value += load_vector(bias, channel, channel < C)[None, :]
    tl.store(y + at, cast(value, y.dtype.element_ty), mask=mask)
    tl.store(stats + row, mean, mask=row < N)
    tl.store(stats + N + row, deviation, mask=row < N)


@triton.jit
def norm_gradients(dy, dresidual, x, weight, stats, dx, parts, N, C, STEPS, BT: tl.constexpr, WIDTH: tl.constexpr):
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
        mean = tl.load(stats + row, mask=row < N, other=0.0)
        deviation = tl.load(stats + N + row, mask=row < N, other=0.0)
        normed = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - mean[:, None]
        normed = tl.where(mask, normed * deviation[:, None], 0.0)
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
