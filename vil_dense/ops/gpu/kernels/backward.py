"""Computes the scan's gradients: of queries, keys and values, and of the logarithms of all weights.

Its parts are functions that are not inlined: together they would need more registers than there are.
"""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.forward import add_products, chunk_maximum, load_state, scores_of
from vil_dense.ops.gpu.kernels.keys import key_value_gradient, state_gradients
from vil_dense.ops.gpu.kernels.tiles import (
    at_head,
    block_entries,
    cast,
    channels_of,
    decays,
    dot,
    load_map,
    load_tile,
    load_vector,
    log_sums,
    query_tiles,
    store_tile,
    tile_positions,
    tokens_at,
    zero_tiles,
)


@triton.jit
def add_state(x, C, state, channel, acc, TRANSPOSED: tl.constexpr, MAPS: tl.constexpr,
              DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Returns acc + x C of some rows of a state, for each block of its columns; TRANSPOSED: of some columns."""
    out = ()
    for b in tl.static_range(NB):
        other = channels_of(b, DH, BD, MAPS)
        if TRANSPOSED:
            tile = tl.trans(load_state(C, state, other, channel, DH, DH % BD == 0))
        else:
            tile = load_state(C, state, channel, other, DH, DH % BD == 0)
        out = out + (dot(x.to(tile.dtype), tile, acc[b], PRECISION),)
    return out


@triton.jit(noinline=True)
def query_gradient(
    q, k, v, dh, stats, maxima, inverse, dden, C, vectors, q_map, q_map_bias, dq, sums, map_parts, scale,
    q_S, v_S, dh_S, head, n, heads, tile, S, N, L,
    MAPS: tl.constexpr, STATES: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    BS: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradient of the queries of a tile; with MAPS it stores the part of c, and the gradients of the map.

    Pointers are those of the head. sums: gradients of row (plane 0) and of beta (plane 4).
    """
    plane = heads * S
    chunk = tile * BT // L
    position, token, inside = tile_positions(tile, S, BT, REVERSE, LARGE)
    row, row_low = log_sums(stats, plane, position, S)
    beta = load_vector(stats, 5 * plane + position, inside) if MAPS else tl.zeros((BT,), tl.float32)
    inverse_tile = load_vector(inverse, position, inside)
    dden_tile = load_vector(dden, position, inside)
    q_tiles = query_tiles(q, token, q_S, inside, n, q_map, q_map_bias, DH, BD, NB, MAPS, PRECISION)
    crosses = (chunk + tl.zeros((1,), tl.int32)) < N - 1
    acc = zero_tiles(NB, BT, BD)
    drow = tl.zeros((BT,), tl.float32)
    dbeta = tl.zeros((BT,), tl.float32)
    if STATES:
        if chunk > 0:
            state = head * N + chunk
            z_before, z_before_low = chunk_maximum(maxima, heads * N, state - 1, chunk - 1, N)
            read = tl.exp((row + z_before) + (row_low + z_before_low))
            vector = vectors + state * (2 * DH + 1)
            for d in range(NB):
                channel = channels_of(d, DH, BD, MAPS)
                dh_tile = load_tile(dh, token, dh_S, inside, channel, DH, DH % BD == 0)
                acc = add_state(dh_tile, C, state, channel, acc, True, MAPS, DH, BD, NB, PRECISION)
                if MAPS:
                    y_sum = tl.load(vector + DH + channel, mask=channel < DH, other=0.0)
                    dbeta += tl.sum(dh_tile.to(tl.float32) * y_sum[None, :], 1)
            weighted = ()
            for b in tl.static_range(NB):
                channel = channels_of(b, DH, BD, MAPS)
                n_tile = tl.load(vector + channel, mask=channel < DH, other=0.0)
                part = acc[b] * inverse_tile[:, None] + dden_tile[:, None] * n_tile[None, :]
                part *= (read * scale)[:, None]
                drow += tl.sum(part * q_tiles[b].to(tl.float32), 1)
                weighted = weighted + (part,)
            acc = weighted
            if MAPS:
                dbeta = read * (dbeta * inverse_tile + dden_tile * tl.load(vector + 2 * DH))
                drow += beta * dbeta
    for first in range(chunk * L, tile * BT + BT, BS):
        at = first + tl.arange(0, BS)
        at_any = first + tl.zeros((1,), tl.int32)
        other = tokens_at(at, S, REVERSE, LARGE)
        is_token = at < S
        scores = scores_of(q_tiles, k, other, q_S, is_token, BT, BS, DH, BD, NB, MAPS, PRECISION)
        scores = scores * scale + beta[:, None]
        dw = tl.zeros((BT, BS), tl.float32)
        for b in tl.static_range(NB):
            channel = channels_of(b, DH, BD, MAPS)
            # The mask is that of any step: a load before the loop would fill the registers with all tiles.
            dh_tile = load_tile(dh, token, dh_S, inside & (at_any < S), channel, DH, DH % BD == 0)
            v_tile = load_tile(v, other, v_S, is_token, channel, DH, DH % BD == 0)
            dw = dot(dh_tile, tl.trans(v_tile), dw, PRECISION)
        column, column_low = log_sums(stats + 2 * plane, plane, at, S)
        dscores = dw * inverse_tile[:, None] + dden_tile[:, None]
        dscores *= decays(row, row_low, column, column_low, position, at)
        drow += tl.sum(tl.where(position[:, None] > at[None, :], scores * dscores, 0.0), 1)
        dbeta += tl.sum(dscores, 1)
        dscores = cast(dscores * scale, k.dtype.element_ty)
        acc = add_products(dscores, k, other, q_S, is_token, acc, DH, BD, NB, MAPS, PRECISION)
    tl.store(sums + position, drow, mask=inside)
    if MAPS:
        tl.store(sums + 4 * plane + position, dbeta, mask=inside)
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        value = acc[b]
        if MAPS:
            rounded = cast(value, k.dtype.element_ty)
            c_tile = load_tile(q, token, q_S, inside, channel, DH, DH % BD == 0)
            gradient = dot(tl.trans(rounded), c_tile, tl.zeros((BD, BD), tl.float32), PRECISION)
            at, same = block_entries(channel, DH)
            tl.store(map_parts + at, gradient, mask=same)
            tl.store(map_parts + 4 * DH + channel, tl.sum(value, 0), mask=channel < DH)
            matrix = load_map(q_map, n, b, BD, NB, False)
            value = dot(rounded, matrix, tl.zeros((BT, BD), tl.float32), PRECISION)
            if STATES:
                value += load_tile(dq, token, q_S, inside & crosses, channel, DH, DH % BD == 0).to(tl.float32)
        store_tile(dq, value, token, q_S, inside, channel, DH, DH % BD == 0)


@triton.jit
def scan_gradients(
    q, k, v, dh, stats, maxima, inverse, dden, C, vectors, dC, dvectors, q_map, q_map_bias, dq, dk, dv, sums, map_parts,
    scale, q_B, q_NH, q_S, v_B, v_NH, v_S, dh_B, dh_NH, dh_S, dq_B, dq_NH, dv_B, dv_NH, dv_S, NH, S, N, L, TILES,
    MAPS: tl.constexpr, STATES: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    BS: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of one head at a tile of tokens: as queries, then as keys and values.

    With MAPS q and k are c and v is u: dk, which is dq, becomes the gradient of c, dv that of u. dh is the gradient of
    the sum over v. map_parts, (B * TILES, NH, 5 DH): of each program, gradients of the map and its bias.
    """
    tile = tl.program_id(0) % TILES
    head = (tl.program_id(0) // TILES).to(tl.int64)
    heads = tl.num_programs(0).to(tl.int64) // TILES
    batch, n = head // NH, head % NH
    q, k = at_head((q, k), batch, n, q_B, q_NH)
    dq, dk = at_head((dq, dk), batch, n, dq_B, dq_NH)
    v += batch * v_B + n * v_NH
    dh += batch * dh_B + n * dh_NH
    dv += batch * dv_B + n * dv_NH
    stats += head * S
    inverse += head * S
    dden += head * S
    sums += head * S
    if MAPS:
        map_parts += ((batch * TILES + tile) * NH + n) * 5 * DH
    if STATES:
        if tile * BT // L < N - 1:
            state_gradients(
                k, v, stats, maxima, dC, dvectors, dk, dv, sums, q_S, v_S, q_S, dv_S, head, heads, tile, S, N, L,
                MAPS, DH, BD, NB, BT, REVERSE, LARGE, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()  # what is stored here is read again below
    query_gradient(
        q, k, v, dh, stats, maxima, inverse, dden, C, vectors, q_map, q_map_bias, dq, sums, map_parts, scale,
        q_S, v_S, dh_S, head, n, heads, tile, S, N, L, MAPS, STATES, DH, BD, NB, BT, BS, REVERSE, LARGE, PRECISION,
    )  # fmt: skip
    tl.debug_barrier()
    key_value_gradient(
        q, k, v, dh, stats, inverse, dden, q_map, q_map_bias, dk, dv, sums, scale,
        q_S, v_S, dh_S, dv_S, n, heads, tile, S, N, L, MAPS, STATES, DH, BD, NB, BT, BS, REVERSE, LARGE, PRECISION,
    )  # fmt: skip
