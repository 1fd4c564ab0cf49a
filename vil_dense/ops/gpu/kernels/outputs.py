"""Computes the gradients of all behind the scan: gate, skip, head norm, and the map of v."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import (
    at_head,
    block_entries,
    cast,
    channels_of,
    dot,
    load_tile,
    load_vector,
    sigmoid,
    store_tile,
    tile_positions,
)


@triton.jit
def load_part(tiles, head, block, BD: tl.constexpr, WIDTH: tl.constexpr, NB: tl.constexpr, IN_FIRST: tl.constexpr):
    """Loads a block of BD channels from a map that lies in tiles of WIDTH; see `load_map`."""
    lane = tl.arange(0, BD)
    row = lane // (BD // 4) * (WIDTH // 4) + block * (BD // 4) % (WIDTH // 4) + lane % (BD // 4)
    tile = head * NB + block * BD // WIDTH
    part = tl.load(tiles + (tile * WIDTH + row[:, None]) * WIDTH + row[None, :])
    return tl.trans(part) if IN_FIRST else part


@triton.jit
def output_tile(block, tensors, rows, weights, c_S, z_S, n,
                DH: tl.constexpr, BD: tl.constexpr, WIDTH: tl.constexpr, NB: tl.constexpr,
                PRECISION: tl.constexpr):  # fmt: skip
    """Loads what the gradients need of BD channels; returns normed heads, and gradients of them and of y silu(z).

    The last two are dy silu(z) times the norm's weight, and without it; then z's gradient, and h before the map.
    tensors, rows, weights: pointers to the head, vectors of the tokens, and parameters.
    """
    dy, c, z, h = tensors
    token, inside, den_h, mean, deviation = rows
    v_map, v_map_bias, norm, norm_bias, skip = weights
    EVEN: tl.constexpr = DH % BD == 0
    channel = channels_of(block, DH, BD, True)
    has = channel < DH
    at = n * DH + channel
    h_tile = load_tile(h, token, c_S, inside, channel, DH, EVEN)
    matrix = load_part(v_map, n, block, BD, WIDTH, NB, True)
    x = dot(h_tile, matrix, den_h[:, None] * load_vector(v_map_bias, at, has)[None, :], PRECISION)
    normed = tl.where(has[None, :], (x - mean[:, None]) * deviation[:, None], 0.0)
    z_tile = load_tile(z, token, z_S, inside, channel, DH, EVEN).to(tl.float32)
    dy_tile = load_tile(dy, token, c_S, inside, channel, DH, EVEN).to(tl.float32)
    c_tile = load_tile(c, token, c_S, inside, channel, DH, EVEN).to(tl.float32)
    open_ = sigmoid(z_tile)
    silu_z = z_tile * open_
    weight = load_vector(norm, at, has)[None, :]
    y = normed * weight + load_vector(norm_bias, at, has)[None, :] + load_vector(skip, at, has)[None, :] * c_tile
    dz = dy_tile * y * (open_ + silu_z * (1 - open_))
    dout = dy_tile * silu_z
    return normed, dout * weight, dout, dz, h_tile, c_tile


@triton.jit
def output_gradients(
    dy, c, z, h, stats, out_stats, v_map, v_map_bias, norm, norm_bias, skip,
    dz, dh, inverse, dden, dm, parts, eps, norm_eps, c_B, c_S, z_B, z_S, dz_B, dz_S, NH, S, STEPS,
    DH: tl.constexpr, BD: tl.constexpr, WIDTH: tl.constexpr, NB: tl.constexpr,
    BT: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of z and of h before the map of v, of one head at STEPS tiles of tokens.

    inverse, dden, dm, (B * NH, S): the inverse of the normaliser, the gradients of n . q and of m.
    parts, (programs of tokens, B, NH, 8, DH): gradients of norm, norm_bias, skip, v_map_bias, and of v_map's blocks.
    """
    head = tl.program_id(1).to(tl.int64)
    plane = tl.num_programs(1).to(tl.int64) * S
    batch, n = head // NH, head % NH
    dy, c, h, dh = at_head((dy, c, h, dh), batch, n, c_B, DH)
    z += batch * z_B + n * DH
    dz += batch * dz_B + n * DH
    stats += head * S
    out_stats += head * S
    parts += (tl.program_id(0) * tl.num_programs(1) + head) * 8 * DH
    EVEN: tl.constexpr = DH % BD == 0
    # One block of channels after the other; sums over all of them come first, for every tile.
    for step in range(STEPS):
        position, token, inside = tile_positions(tl.program_id(0) * STEPS + step, S, BT, REVERSE, LARGE)
        den = load_vector(out_stats, position, inside)
        mean = load_vector(out_stats, plane + position, inside)
        deviation = load_vector(out_stats, 2 * plane + position, inside)
        m = load_vector(stats, 4 * plane + position, inside)
        floor = tl.exp(-tl.maximum(m, 0.0))
        one = eps * tl.exp(tl.minimum(m, 0.0))
        inverse_tile = 1 / (tl.maximum(tl.abs(den), floor) + one)
        den_h = den * inverse_tile
        tensors, rows = (dy, c, z, h), (token, inside, den_h, mean, deviation)
        weights = (v_map, v_map_bias, norm, norm_bias, skip)
        sum_1 = tl.zeros((BT,), tl.float32)
        sum_2 = tl.zeros((BT,), tl.float32)
        for block in range(NB * (WIDTH // BD)):
            normed, dnormed, dout, dz_tile, h_tile, c_tile = output_tile(
                block, tensors, rows, weights, c_S, z_S, n, DH, BD, WIDTH, NB, PRECISION
            )
            sum_1 += tl.sum(dnormed, 1)
            sum_2 += tl.sum(dnormed * normed, 1)
        dbias = tl.zeros((BT,), tl.float32)
        for block in range(NB * (WIDTH // BD)):
            normed, dnormed, dout, dz_tile, h_tile, c_tile = output_tile(
                block, tensors, rows, weights, c_S, z_S, n, DH, BD, WIDTH, NB, PRECISION
            )
            channel = channels_of(block, DH, BD, True)
            has = channel < DH
            store_tile(dz, dz_tile, token, dz_S, inside, channel, DH, EVEN)
            dx = deviation[:, None] * (dnormed - sum_1[:, None] / DH - normed * (sum_2 / DH)[:, None])
            dx = tl.where(inside[:, None] & has[None, :], dx, 0.0)
            dbias += tl.sum(dx * load_vector(v_map_bias, n * DH + channel, has)[None, :], 1)
            rounded = cast(dx, h_tile.dtype)
            matrix = load_part(v_map, n, block, BD, WIDTH, NB, False)
            dh_tile = dot(rounded, matrix, tl.zeros((BT, BD), tl.float32), PRECISION)
            store_tile(dh, dh_tile, token, c_S, inside, channel, DH, EVEN)
            dmap = dot(tl.trans(rounded), h_tile, tl.zeros((BD, BD), tl.float32), PRECISION)
            at, same = block_entries(channel, DH)
            at = parts + 4 * DH + at
            dnorm, dskip = tl.sum(dout * normed, 0), tl.sum(dout * c_tile, 0)
            dnorm_bias, dv_bias = tl.sum(dout, 0), tl.sum(dx * den_h[:, None], 0)
            if step > 0:  # the sums of the tiles before lie in memory, where this program put them
                dnorm += tl.load(parts + channel, mask=has, other=0.0)
                dnorm_bias += tl.load(parts + DH + channel, mask=has, other=0.0)
                dskip += tl.load(parts + 2 * DH + channel, mask=has, other=0.0)
                dv_bias += tl.load(parts + 3 * DH + channel, mask=has, other=0.0)
                dmap += tl.load(at, mask=same, other=0.0)
            tl.debug_barrier()
            tl.store(parts + channel, dnorm, mask=has)
            tl.store(parts + DH + channel, dnorm_bias, mask=has)
            tl.store(parts + 2 * DH + channel, dskip, mask=has)
            tl.store(parts + 3 * DH + channel, dv_bias, mask=has)
            tl.store(at, dmap, mask=same)
            tl.debug_barrier()
        # The norm takes out the scale of h, all but its eps: so little goes through the normaliser.
        dh_h = sum_2 * norm_eps * deviation * deviation
        dnormaliser = -dh_h * inverse_tile
        through = tl.where(tl.abs(den) > floor, tl.where(den > 0, dnormaliser, -dnormaliser), 0.0)
        at = head * S + position
        tl.store(inverse + at, inverse_tile, mask=inside)
        tl.store(dden + at, dbias * inverse_tile + through, mask=inside)
        dm_tile = dnormaliser * one
        if PRECISION == "ieee":  # see `gate_gradients`
            dm_tile = tl.where(m > 0, tl.where(tl.abs(den) > floor, 0.0, -dnormaliser * floor), dm_tile)
        tl.store(dm + at, dm_tile, mask=inside)
