"""Computes for `scan_gradients` what concerns keys and values: what later chunks add, and their own chunk."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.forward import add_products, chunk_maximum, load_state
from vil_dense.ops.gpu.kernels.tiles import (
    cast,
    channels_of,
    decays,
    dot,
    load_map,
    load_tile,
    load_vector,
    log_sums,
    store_tile,
    tile_positions,
    tokens_at,
    zero_tiles,
)


@triton.jit(noinline=True)
def state_gradients(
    k, v, stats, maxima, dC, dvectors, dk, dv, sums, q_S, v_S, dk_S, dv_S, head, heads, tile, S, N, L,
    MAPS: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes what later chunks add to the gradients of keys and values of a tile, and stores it in dk and dv.

    It stores the part of the gradient of col in plane 1 of `sums`.
    """
    plane = heads * S
    chunk = tile * BT // L
    position, token, inside = tile_positions(tile, S, BT, REVERSE, LARGE)
    state = head * N + chunk
    vector = dvectors + state * (2 * DH + 1)
    column, column_low = log_sums(stats + 2 * plane, plane, position, S)
    z_after, z_after_low = chunk_maximum(maxima, heads * N, state, chunk, N)
    write = tl.exp((column - z_after) + (column_low - z_after_low))
    dcolumn = tl.zeros((BT,), tl.float32)
    EVEN: tl.constexpr = DH % BD == 0
    for b in range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        from_v = tl.zeros((BT, BD), tl.float32)
        for d in range(NB):
            other = channels_of(d, DH, BD, MAPS)
            v_tile = load_tile(v, token, v_S, inside, other, DH, EVEN)
            dC_tile = load_state(dC, state, channel, other, DH, EVEN)
            from_v = dot(v_tile.to(dC_tile.dtype), tl.trans(dC_tile), from_v, PRECISION)
        x_sum = tl.load(vector + channel, mask=channel < DH, other=0.0)
        from_v = write[:, None] * (from_v + x_sum[None, :])
        keys = load_tile(k, token, q_S, inside, channel, DH, EVEN)
        dcolumn += tl.sum(from_v * keys.to(tl.float32), 1)
        store_tile(dk, from_v, token, dk_S, inside, channel, DH, EVEN)
        from_k = tl.zeros((BT, BD), tl.float32)
        for d in range(NB):
            other = channels_of(d, DH, BD, MAPS)
            k_tile = load_tile(k, token, q_S, inside, other, DH, EVEN)
            dC_tile = load_state(dC, state, other, channel, DH, EVEN)
            from_k = dot(k_tile.to(dC_tile.dtype), dC_tile, from_k, PRECISION)
        if MAPS:
            y_sum = tl.load(vector + DH + channel, mask=channel < DH, other=0.0)
            from_k += y_sum[None, :]
            values = load_tile(v, token, v_S, inside, channel, DH, EVEN)
            dcolumn += write * tl.sum(values.to(tl.float32) * y_sum[None, :], 1)
        store_tile(dv, write[:, None] * from_k, token, dv_S, inside, channel, DH, EVEN)
    if MAPS:
        dcolumn += write * tl.load(vector + 2 * DH)
    tl.store(sums + plane + position, dcolumn, mask=inside)


@triton.jit
def key_tiles(k, token, stride, inside, head, q_map, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr,
              MAPS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Returns the keys of all channels of a head, NB tiles; with MAPS the folded map acts on them."""
    tiles = ()
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        tile = load_tile(k, token, stride, inside, channel, DH, DH % BD == 0)
        if MAPS:
            matrix = load_map(q_map, head, b, BD, NB, False)
            tile = cast(dot(tile, matrix, tl.zeros((token.shape[0], BD), tl.float32), PRECISION), tile.dtype)
        tiles = tiles + (tile,)
    return tiles


@triton.jit
def later_queries(
    k_tiles, v, q, dh, row_token, row_inside, token, q_S, v_S, dh_S, inside,
    BT: tl.constexpr, BS: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr,
    MAPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Returns k q^T and v dh^T of a tile of keys with one of queries."""
    scores = tl.zeros((BT, BS), tl.float32)
    dw = tl.zeros((BT, BS), tl.float32)
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        q_tile = load_tile(q, token, q_S, inside, channel, DH, DH % BD == 0)
        scores = dot(k_tiles[b], tl.trans(q_tile), scores, PRECISION)
        dh_tile = load_tile(dh, token, dh_S, inside, channel, DH, DH % BD == 0)
        v_tile = load_tile(v, row_token, v_S, row_inside, channel, DH, DH % BD == 0)
        dw = dot(v_tile, tl.trans(dh_tile), dw, PRECISION)
    return scores, dw


@triton.jit(noinline=True)
def key_value_gradient(
    q, k, v, dh, stats, inverse, dden, q_map, q_map_bias, dk, dv, sums, scale,
    q_S, v_S, dh_S, dv_S, n, heads, tile, S, N, L,
    MAPS: tl.constexpr, STATES: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    BS: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of keys and values of a tile, and adds to them what dk and dv hold of it.

    Pointers are those of the head. sums: gradients of col (plane 1), to which it adds, and of pairs s = t (plane 2).
    """
    plane = heads * S
    chunk = tile * BT // L
    position, token, inside = tile_positions(tile, S, BT, REVERSE, LARGE)
    column, column_low = log_sums(stats + 2 * plane, plane, position, S)
    dk_tiles = zero_tiles(NB, BT, BD)
    dv_tiles = zero_tiles(NB, BT, BD)
    crosses = (chunk + tl.zeros((1,), tl.int32)) < N - 1
    dcolumn = tl.zeros((BT,), tl.float32)
    if STATES:
        dcolumn += load_vector(sums, plane + position, inside & crosses)
    ddiagonal = tl.zeros((BT,), tl.float32)
    dscores_sum = tl.zeros((BT,), tl.float32)
    EVEN: tl.constexpr = DH % BD == 0
    k_tiles = key_tiles(k, token, q_S, inside, n, q_map, DH, BD, NB, MAPS, PRECISION)
    gamma = tl.zeros((BT,), tl.float32)
    if MAPS:
        for b in tl.static_range(NB):
            channel = channels_of(b, DH, BD, MAPS)
            k_tile = load_tile(k, token, q_S, inside, channel, DH, EVEN).to(tl.float32)
            gamma += tl.sum(k_tile * load_vector(q_map_bias, n * DH + channel, channel < DH)[None, :], 1)
    for first in range(tile * BT // BS * BS, tl.minimum(S, chunk * L + L), BS):
        at = first + tl.arange(0, BS)
        at_any = first + tl.zeros((1,), tl.int32)
        other = tokens_at(at, S, REVERSE, LARGE)
        is_token = at < S
        scores, dw = later_queries(
            k_tiles, v, q, dh, token, inside & (at_any < S), other, q_S, v_S, dh_S, is_token,
            BT, BS, DH, BD, NB, MAPS, PRECISION,
        )  # fmt: skip
        row, row_low = log_sums(stats, plane, at, S)
        decay = tl.trans(decays(row, row_low, column, column_low, at, position))
        scores = scores * scale
        if MAPS:
            scores += load_vector(stats, 5 * plane + at, is_token)[None, :] + gamma[:, None]
        inverse_tile = load_vector(inverse, at, is_token)[None, :]
        dscores = (dw * inverse_tile + load_vector(dden, at, is_token)[None, :]) * decay
        both = scores * dscores
        dcolumn += tl.sum(tl.where(at[None, :] > position[:, None], both, 0.0), 1)
        ddiagonal += tl.sum(tl.where(at[None, :] == position[:, None], both, 0.0), 1)
        dscores_sum += tl.sum(dscores, 1)
        w = cast(scores * decay * inverse_tile, v.dtype.element_ty)
        dv_tiles = add_products(w, dh, other, dh_S, is_token, dv_tiles, DH, BD, NB, MAPS, PRECISION)
        dscores = cast(dscores * scale, v.dtype.element_ty)
        dk_tiles = add_products(dscores, q, other, q_S, is_token, dk_tiles, DH, BD, NB, MAPS, PRECISION)
    tl.debug_barrier()
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        dk_tile, dv_tile = dk_tiles[b], dv_tiles[b]
        if MAPS:
            # The sum was one of c: the queries' map, and the gradient's part along its bias, are applied to it here.
            matrix = load_map(q_map, n, b, BD, NB, True)
            bias = load_vector(q_map_bias, n * DH + channel, channel < DH)
            dk_tile = cast(dk_tile, k.dtype.element_ty)
            dk_tile = dot(dk_tile, matrix, dscores_sum[:, None] * bias[None, :], PRECISION)
            dk_tile += load_tile(dk, token, q_S, inside, channel, DH, EVEN).to(tl.float32)
        elif STATES:
            dk_tile += load_tile(dk, token, q_S, inside & crosses, channel, DH, EVEN).to(tl.float32)
        if STATES:
            dv_tile += load_tile(dv, token, dv_S, inside & crosses, channel, DH, EVEN).to(tl.float32)
        store_tile(dk, dk_tile, token, q_S, inside, channel, DH, EVEN)
        store_tile(dv, dv_tile, token, dv_S, inside, channel, DH, EVEN)
    tl.store(sums + plane + position, dcolumn, mask=inside)
    tl.store(sums + 2 * plane + position, ddiagonal, mask=inside)
