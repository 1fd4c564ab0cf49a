"""Computes c and the gates from u by a convolution, and the gradients of u and of all weights that act on it."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import cast, dot, load_vector, sigmoid, silu

UNROLL = tl.constexpr(3)


@triton.jit
def neighbour(token, offset, S, H, W, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
              CAUSAL: tl.constexpr, REVERSE: tl.constexpr, BACK: tl.constexpr):  # fmt: skip
    """Returns the token that weight `offset` of a kernel reads for `token`, and whether there is one.

    BACK: the token that reads `token` with this weight. Of a grid (D, H, W) tokens are numbered by rows.
    """
    sign: tl.constexpr = -1 if BACK else 1
    if CAUSAL:
        step = KW - 1 - offset if REVERSE else offset - KW + 1
        other = token + sign * step
        inside = (other >= 0) & (other < S)
    else:
        d = token // (H * W) + sign * (offset // (KH * KW) - KD // 2)
        h = token // W % H + sign * (offset // KW % KH - KH // 2)
        w = token % W + sign * (offset % KW - KW // 2)
        other = (d * H + h) * W + w
        inside = (d >= 0) & (other < S) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    return other.to(tl.int64), inside & (token < S)


@triton.jit
def load_tokens(x, at, is_token, channel, has_channel):
    """Loads tokens, which begin at `at`, by channels; zeros where there are none."""
    return tl.load(x + at[:, None] + channel[None, :], mask=is_token[:, None] & has_channel, other=0.0)


@triton.jit
def convolved(u, weight, bias, start, token, channel, has_channel, u_S, S, H, W,
              BT: tl.constexpr, BE: tl.constexpr, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
              CAUSAL: tl.constexpr, REVERSE: tl.constexpr):  # fmt: skip
    """Returns the convolution of u at a tile, float32; the sequence of each token begins at `start`."""
    acc = tl.zeros((BT, BE), tl.float32) + load_vector(bias, channel, channel >= 0)[None, :]
    for offset in tl.range(KD * KH * KW, loop_unroll_factor=UNROLL):  # all at once they would need more registers
        other, inside = neighbour(token, offset, S, H, W, KD, KH, KW, CAUSAL, REVERSE, False)
        tile = load_tokens(u, start + other * u_S, inside, channel, has_channel).to(tl.float32)
        acc += tile * load_vector(weight, channel * (KD * KH * KW) + offset, channel >= 0)[None, :]
    return acc


@triton.jit
def convolve(
    u, weight, bias, gates, c, gate_parts, u_B, u_S, S, E, H, W, WIDTH,
    BT: tl.constexpr, BE: tl.constexpr, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, CAUSAL: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes c = silu(conv(u)) and one part of the gates' pre-activations at a tile of tokens and WIDTH channels.

    gate_parts, (parts, B, S, 16); gates: see `fold_maps`.
    """
    token = tl.program_id(0) * BT + tl.arange(0, BT)
    batch, part = tl.program_id(1).to(tl.int64), tl.program_id(2)
    c += batch * S * E
    row = tl.arange(0, 16)
    acc = tl.zeros((BT, 16), tl.float32)
    start = batch * u_B + tl.zeros((BT,), tl.int64)
    for first in range(part * WIDTH, part * WIDTH + WIDTH, BE):
        channel = first + tl.arange(0, BE)
        has_channel = (channel < E)[None, :]
        channel = tl.where(channel < E, channel, 0)
        pre = convolved(
            u, weight, bias, start, token, channel, has_channel, u_S, S, H, W, BT, BE, KD, KH, KW, CAUSAL, REVERSE
        )
        c_tile = cast(silu(pre), c.dtype.element_ty)
        is_token = token < S
        at = c + token.to(tl.int64)[:, None] * E + channel[None, :]
        tl.store(at, c_tile, mask=is_token[:, None] & has_channel)
        of_c = tl.load(gates + row[None, :] * E + channel[:, None], mask=tl.trans(has_channel), other=0.0)
        of_u = tl.load(gates + (16 + row[None, :]) * E + channel[:, None], mask=tl.trans(has_channel), other=0.0)
        u_tile = load_tokens(u, start + token.to(tl.int64) * u_S, is_token, channel, has_channel)
        acc = dot(c_tile.to(tl.float32), of_c, acc, PRECISION)
        acc = dot(u_tile.to(tl.float32), of_u, acc, PRECISION)
    out = gate_parts + (part * tl.num_programs(1) + batch) * S * 16
    tl.store(out + token.to(tl.int64)[:, None] * 16 + row[None, :], acc, mask=(token < S)[:, None])


@triton.jit
def places(step, B, S, STEPS, u_B, BT: tl.constexpr):
    """Numbers the tokens of all sequences: where they lie, where their sequences begin in u, and which they are there.

    Behind the last sequence the token is S, which is none.
    """
    place = (tl.program_id(0).to(tl.int64) * STEPS + step) * BT + tl.arange(0, BT)
    token = tl.where(place < tl.cast(B, tl.int64) * S, place % S, S).to(tl.int32)
    return place, place // S * u_B, token


@triton.jit
def activation_gradients(
    u, z, dy, dc, dgates, weight, bias, gates, skip, dpre, parts, u_B, u_S, z_B, z_S, B, S, E, H, W, STEPS,
    BT: tl.constexpr, BE: tl.constexpr, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, CAUSAL: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradient of the convolution's output, and those of its weights and of the gates' functions.

    A program works for BE channels at STEPS tiles of the tokens of all sequences, one after the other.
    parts, (programs of tokens, K + 33, E): gradients of K weights, of the bias, and of `gates`.
    """
    channel = tl.program_id(1) * BE + tl.arange(0, BE)
    has_channel = (channel < E)[None, :]
    channel = tl.where(channel < E, channel, 0)
    row = tl.arange(0, 16)
    K: tl.constexpr = KD * KH * KW
    out = parts + tl.program_id(0).to(tl.int64) * (K + 33) * E + channel
    of_c = tl.load(gates + row[:, None] * E + channel[None, :])
    skip_tile = load_vector(skip, channel, channel >= 0)
    dof_c = tl.zeros((16, BE), tl.float32)
    dof_u = tl.zeros((16, BE), tl.float32)
    dbias = tl.zeros((BT, BE), tl.float32)
    for step in range(STEPS):
        place, start, token = places(step, B, S, STEPS, u_B, BT)
        is_token = token < S
        at_z = place // S * z_B + place % S * z_S
        pre = convolved(
            u, weight, bias, start, token, channel, has_channel, u_S, S, H, W, BT, BE, KD, KH, KW, CAUSAL, REVERSE
        )
        c_tile = silu(pre)
        dgate = tl.load(dgates + place[:, None] * 16 + row[None, :], mask=is_token[:, None], other=0.0)
        dc_tile = load_tokens(dc, place * E, is_token, channel, has_channel).to(tl.float32)
        gate = silu(load_tokens(z, at_z, is_token, channel, has_channel).to(tl.float32))
        dc_tile += load_tokens(dy, place * E, is_token, channel, has_channel).to(tl.float32) * gate * skip_tile[None, :]
        dc_tile = dot(dgate, of_c, dc_tile, PRECISION)
        slope = sigmoid(pre)
        dpre_tile = cast(dc_tile * (slope + c_tile * (1 - slope)), dpre.dtype.element_ty)
        tl.store(dpre + place[:, None] * E + channel[None, :], dpre_tile, mask=is_token[:, None] & has_channel)
        dbias += tl.where(is_token[:, None], dpre_tile.to(tl.float32), 0.0)
        u_tile = load_tokens(u, start + token.to(tl.int64) * u_S, is_token, channel, has_channel).to(tl.float32)
        dgate = tl.trans(dgate)
        dof_c = dot(dgate, c_tile, dof_c, PRECISION)
        dof_u = dot(dgate, u_tile, dof_u, PRECISION)
    inside = tl.program_id(1) * BE + tl.arange(0, BE) < E
    tl.store(out + K * E, tl.sum(dbias, 0), mask=inside)
    at = out[None, :] + (K + 1 + row)[:, None] * E
    tl.store(at, dof_c, mask=inside[None, :])
    tl.store(at + 16 * E, dof_u, mask=inside[None, :])
    tl.debug_barrier()  # what was stored is read again, once for each weight: sums of all would not fit in registers
    for offset in range(K):
        dweight = tl.zeros((BT, BE), tl.float32)
        for step in range(STEPS):
            place, start, token = places(step, B, S, STEPS, u_B, BT)
            other, inside_grid = neighbour(token, offset, S, H, W, KD, KH, KW, CAUSAL, REVERSE, False)
            tile = load_tokens(u, start + other * u_S, inside_grid, channel, has_channel).to(tl.float32)
            dpre_tile = load_tokens(dpre, place * E, token < S, channel, has_channel)
            dweight += tile * dpre_tile.to(tl.float32)
        tl.store(out + offset * E, tl.sum(dweight, 0), mask=inside)


@triton.jit
def convolve_gradients(
    dpre, du_scan, dgates, weight, gates, du, du_B, du_S, S, E, H, W,
    BT: tl.constexpr, BE: tl.constexpr, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, CAUSAL: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradient of u at a tile: through the convolution, the scan and the gates."""
    token = tl.program_id(0) * BT + tl.arange(0, BT)
    wide = token.to(tl.int64)
    is_token = token < S
    channel = tl.program_id(1) * BE + tl.arange(0, BE)
    has_channel = (channel < E)[None, :]
    channel = tl.where(channel < E, channel, 0)
    batch = tl.program_id(2).to(tl.int64)
    dpre += batch * S * E
    row = tl.arange(0, 16)
    of_u = tl.load(gates + (16 + row[:, None]) * E + channel[None, :])
    dgate = tl.load(dgates + (batch * S + wide)[:, None] * 16 + row[None, :], mask=is_token[:, None], other=0.0)
    acc = load_tokens(du_scan + batch * S * E, wide * E, is_token, channel, has_channel).to(tl.float32)
    acc = dot(dgate, of_u, acc, PRECISION)
    for offset in tl.range(KD * KH * KW, loop_unroll_factor=UNROLL):
        other, inside = neighbour(token, offset, S, H, W, KD, KH, KW, CAUSAL, REVERSE, True)
        tile = load_tokens(dpre, other * E, inside, channel, has_channel).to(tl.float32)
        acc += tile * load_vector(weight, channel * (KD * KH * KW) + offset, channel >= 0)[None, :]
    at = du + batch * du_B + wide[:, None] * du_S + channel[None, :]
    tl.store(at, cast(acc, du.dtype.element_ty), mask=is_token[:, None] & has_channel)
