"""Scans forward: states before chunks, hidden states, and the head norm, skip and gate behind them."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import (
    NEVER,
    at_head,
    cast,
    channels_of,
    decays,
    dot,
    in_head,
    load_map,
    load_tile,
    load_vector,
    log_sums,
    query_tile,
    query_tiles,
    silu,
    store_tile,
    tile_positions,
    tokens_at,
    zero_tiles,
)


@triton.jit
def load_state(C, state, row, column, DH: tl.constexpr, EVEN: tl.constexpr):
    """Loads a block of the matrix `state` of C, (..., DH, DH)."""
    at = C + state * (DH * DH) + row[:, None] * DH + column[None, :]
    if EVEN:
        tile = tl.load(at)
    else:
        tile = tl.load(at, mask=(row < DH)[:, None] & (column < DH)[None, :], other=0.0)
    return tile


@triton.jit
def chunk_maximum(maxima, plane, at, chunk, N):
    """Loads z at the end of a chunk, a sum of two numbers; NEVER before the first."""
    inside = (chunk >= 0) & (chunk < N)
    return tl.load(maxima + at, mask=inside, other=NEVER), tl.load(maxima + plane + at, mask=inside, other=0.0)


@triton.jit
def scan_states(
    x, y, stats, maxima, inverse, dden, C_before, vectors_before, q_map, q_map_bias, C, vectors, products, scale,
    x_B, x_NH, x_S, y_B, y_NH, y_S, NH, S, N, L,
    BACKWARD: tl.constexpr, MAPS: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes one block of the state before each chunk; BACKWARD: of its gradient, after each chunk.

    x, y: k and v, or q (c, from which q is made) and the gradient of h. C, (B * NH, N, DH, DH): sums of x y^T.
    vectors, (B * NH, N, 2 DH + 1): sums of x, of y (times beta), and of the weights.
    """
    head = tl.program_id(0).to(tl.int64)
    row = channels_of(tl.program_id(1), DH, BD, MAPS)
    column = channels_of(tl.program_id(2), DH, BD, MAPS)
    inside = (row < DH)[:, None] & (column < DH)[None, :]
    plane = tl.num_programs(0).to(tl.int64) * S
    chunks = tl.num_programs(0).to(tl.int64) * N
    x += (head // NH) * x_B + (head % NH) * x_NH
    y += (head // NH) * y_B + (head % NH) * y_NH
    stats += head * S
    EVEN: tl.constexpr = DH % BD == 0
    matrix = tl.zeros((BD, BD), tl.float32)
    x_sum = tl.zeros((BD,), tl.float32)
    y_sum = tl.zeros((BD,), tl.float32)
    weight_sum = 0.0
    for step in range(N):
        chunk = N - 1 - step if BACKWARD else step
        state = head * N + chunk
        at = state * (DH * DH) + row[:, None] * DH + column[None, :]
        tl.store(C + at, matrix.to(C.dtype.element_ty), mask=inside)
        vector = vectors + state * (2 * DH + 1)
        if tl.program_id(2) == 0:
            tl.store(vector + row, x_sum, mask=row < DH)
        if tl.program_id(1) == 0:
            tl.store(vector + DH + column, y_sum, mask=column < DH)
            if tl.program_id(2) == 0:
                tl.store(vector + 2 * DH, weight_sum)
        if BACKWARD:
            # C after this chunk times its gradient: the gradient of all that crosses the end of the chunk. Behind the
            # last chunk the gradient is zero, whatever it is multiplied with.
            step_on = tl.minimum(chunk + 1, N - 1) - chunk
            after = vectors_before + (state + step_on) * (2 * DH + 1)
            C_after = tl.load(C_before + at + step_on * (DH * DH), mask=inside, other=0.0)
            product = tl.sum(matrix * C_after.to(tl.float32))
            if tl.program_id(2) == 0:
                product += tl.sum(x_sum * tl.load(after + row, mask=row < DH, other=0.0))
            if tl.program_id(1) == 0:
                product += tl.sum(y_sum * tl.load(after + DH + column, mask=column < DH, other=0.0))
                if tl.program_id(2) == 0:
                    product += weight_sum * tl.load(after + 2 * DH)
            block = tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)
            tl.store(products + state * tl.num_programs(1) * tl.num_programs(2) + block, product)
        z_before, z_before_low = chunk_maximum(maxima, chunks, state - 1, chunk - 1, N)
        z_after, z_after_low = chunk_maximum(maxima, chunks, state, chunk, N)
        decay = tl.exp((z_before - z_after) + (z_before_low - z_after_low))
        matrix *= decay
        x_sum *= decay
        y_sum *= decay
        weight_sum *= decay
        for first in range(0, L, BT):
            position = chunk * L + first + tl.arange(0, BT)
            token = tokens_at(position, S, REVERSE, LARGE)
            is_token = position < S
            y_tile = load_tile(y, token, y_S, is_token, column, DH, EVEN)
            if BACKWARD:
                x_tile = query_tile(
                    x, token, x_S, is_token, tl.program_id(1), head % NH, q_map, q_map_bias,
                    DH, BD, NB, MAPS, PRECISION,
                )  # fmt: skip
                high, low = log_sums(stats, plane, position, S)
                read = tl.exp((high + z_before) + (low + z_before_low))
                w = read * tl.load(inverse + head * S + position, mask=is_token, other=0.0)
                w_x = read * tl.load(dden + head * S + position, mask=is_token, other=0.0)
                beta = load_vector(stats, 5 * plane + position, is_token) if MAPS else tl.zeros_like(w)
                w_y, w_1 = w * beta, w_x * beta
                w *= scale
                w_x *= scale
            else:
                x_tile = load_tile(x, token, x_S, is_token, row, DH, EVEN)
                high, low = log_sums(stats + 2 * plane, plane, position, S)
                w = tl.exp((high - z_after) + (low - z_after_low))
                w_x, w_y, w_1 = w, w, w
            wide = x_tile.to(tl.float32)
            matrix = dot(tl.trans(cast(wide * w[:, None], x_tile.dtype)), y_tile.to(x_tile.dtype), matrix, PRECISION)
            x_sum += tl.sum(wide * w_x[:, None], 0)
            y_sum += tl.sum(y_tile.to(tl.float32) * w_y[:, None], 0)
            weight_sum += tl.sum(w_1, 0)


@triton.jit
def add_products(x, y, token, stride, inside, acc,
                 DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, MAPS: tl.constexpr,
                 PRECISION: tl.constexpr):  # fmt: skip
    """Returns acc + x y for each block of the channels of y, (tokens, DH); x is (rows, tokens)."""
    out = ()
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        tile = load_tile(y, token, stride, inside, channel, DH, DH % BD == 0)
        out = out + (dot(x.to(tile.dtype), tile, acc[b], PRECISION),)
    return out


@triton.jit
def scores_of(q_tiles, k, token, stride, inside,
              BT: tl.constexpr, BS: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr,
              MAPS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Returns q k^T of a tile of queries in registers and a tile of keys in memory."""
    scores = tl.zeros((BT, BS), tl.float32)
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        k_tile = load_tile(k, token, stride, inside, channel, DH, DH % BD == 0)
        scores = dot(q_tiles[b], tl.trans(k_tile), scores, PRECISION)
    return scores


@triton.jit
def read_state(q, token, stride, inside, head, q_map, q_map_bias, C, vectors, state, acc, beta,
               DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, MAPS: tl.constexpr,
               PRECISION: tl.constexpr):  # fmt: skip
    """Returns q^T C and q . n of the state before a chunk, where the keys' bias adds beta."""
    den = tl.zeros((token.shape[0],), tl.float32)
    at = vectors + state * (2 * DH + 1)
    if MAPS:
        den += beta * tl.load(at + 2 * DH)
        out = ()
        for b in tl.static_range(NB):
            column = channels_of(b, DH, BD, MAPS)
            y_sum = tl.load(at + DH + column, mask=in_head(column, DH, BD), other=0.0)
            out = out + (acc[b] + beta[:, None] * y_sum[None, :],)
        acc = out
    for block in range(NB):
        tile = query_tile(q, token, stride, inside, block, head, q_map, q_map_bias, DH, BD, NB, MAPS, PRECISION)
        row = channels_of(block, DH, BD, MAPS)
        den += tl.sum(tile.to(tl.float32) * tl.load(at + row, mask=in_head(row, DH, BD), other=0.0)[None, :], 1)
        out = ()
        for b in tl.static_range(NB):
            C_tile = load_state(C, state, row, channels_of(b, DH, BD, MAPS), DH, DH % BD == 0)
            out = out + (dot(tile.to(C_tile.dtype), C_tile, acc[b], PRECISION),)
        acc = out
    return acc, den


@triton.jit
def hidden_states(
    q, k, v, z, stats, maxima, C, vectors, q_map, q_map_bias, v_map, v_map_bias, norm, norm_bias, skip,
    y, h, out_stats, scale, eps, norm_eps,
    q_B, q_NH, q_S, v_B, v_NH, v_S, z_B, z_S, h_B, h_NH, h_S, NH, S, N, L, TILES,
    MAPS: tl.constexpr, STATES: tl.constexpr, DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, BT: tl.constexpr,
    BS: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes h of one head at a tile of tokens; with MAPS also the gated output y.

    With MAPS q and k are c and v is u: the maps of q and k are one map of c here, and h is the map of v applied to the
    sum over u. Then `h` holds that sum, before the map. out_stats: (3, B * NH, S), n . q of the definition, mean and
    inverse deviation of the head norm.
    """
    tile = TILES - 1 - tl.program_id(0) % TILES
    head = (tl.program_id(0) // TILES).to(tl.int64)
    heads = tl.num_programs(0).to(tl.int64) // TILES
    batch, n = head // NH, head % NH
    plane = heads * S
    chunk = tile * BT // L
    position, token, inside = tile_positions(tile, S, BT, REVERSE, LARGE)
    q, k = at_head((q, k), batch, n, q_B, q_NH)
    v += batch * v_B + n * v_NH
    stats += head * S
    row, row_low = log_sums(stats, plane, position, S)
    beta = load_vector(stats, 5 * plane + position, inside) if MAPS else tl.zeros((BT,), tl.float32)
    acc = zero_tiles(NB, BT, BD)
    den = tl.zeros((BT,), tl.float32)
    if STATES:
        if chunk > 0:
            acc, den = read_state(
                q, token, q_S, inside, n, q_map, q_map_bias, C, vectors, head * N + chunk, acc, beta,
                DH, BD, NB, MAPS, PRECISION,
            )  # fmt: skip
            z_before, z_before_low = chunk_maximum(maxima, heads * N, head * N + chunk - 1, chunk - 1, N)
            read = tl.exp((row + z_before) + (row_low + z_before_low))
            den *= read * scale
            scaled = ()
            for b in tl.static_range(NB):
                scaled = scaled + (acc[b] * (read * scale)[:, None],)
            acc = scaled
    q_tiles = query_tiles(q, token, q_S, inside, n, q_map, q_map_bias, DH, BD, NB, MAPS, PRECISION)
    for first in range(chunk * L, tile * BT + BT, BS):
        at = first + tl.arange(0, BS)
        other = tokens_at(at, S, REVERSE, LARGE)
        is_token = at < S
        scores = scores_of(q_tiles, k, other, q_S, is_token, BT, BS, DH, BD, NB, MAPS, PRECISION)
        column, column_low = log_sums(stats + 2 * plane, plane, at, S)
        w = (scores * scale + beta[:, None]) * decays(row, row_low, column, column_low, position, at)
        den += tl.sum(w, 1)
        acc = add_products(cast(w, v.dtype.element_ty), v, other, v_S, is_token, acc, DH, BD, NB, MAPS, PRECISION)
    m = load_vector(stats, 4 * plane + position, inside)
    floor = tl.exp(-tl.maximum(m, 0.0))
    inverse = 1 / (tl.maximum(tl.abs(den), floor) + eps * tl.exp(tl.minimum(m, 0.0)))
    out_stats += head * S + position
    tl.store(out_stats, den, mask=inside)
    at_h = batch * h_B + n * h_NH
    EVEN: tl.constexpr = DH % BD == 0
    hidden = ()
    mean = tl.zeros((BT,), tl.float32)
    for b in tl.static_range(NB):
        channel = channels_of(b, DH, BD, MAPS)
        x = acc[b] * inverse[:, None]
        if h is not None:
            store_tile(h + at_h, x, token, h_S, inside, channel, DH, EVEN)
        if MAPS:
            matrix = load_map(v_map, n, b, BD, NB, True)
            bias = load_vector(v_map_bias, n * DH + channel, in_head(channel, DH, BD))
            x = cast(x, v.dtype.element_ty)
            x = dot(x, matrix, (den * inverse)[:, None] * bias[None, :], PRECISION)
            mean += tl.sum(x, 1) / DH
        hidden = hidden + (x,)
    if MAPS:
        variance = tl.zeros((BT,), tl.float32)
        for b in tl.static_range(NB):
            centred = hidden[b] - mean[:, None]
            if not EVEN:
                centred = tl.where((channels_of(b, DH, BD, MAPS) < DH)[None, :], centred, 0.0)
            variance += tl.sum(centred * centred, 1) / DH
        deviation = tl.rsqrt(variance + norm_eps)
        tl.store(out_stats + plane, mean, mask=inside)
        tl.store(out_stats + 2 * plane, deviation, mask=inside)
        z += batch * z_B + n * DH
        y += batch * q_B + n * q_NH
        for b in tl.static_range(NB):
            channel = channels_of(b, DH, BD, MAPS)
            at = n * DH + channel
            c_tile = load_tile(q, token, q_S, inside, channel, DH, EVEN).to(tl.float32)
            z_tile = load_tile(z, token, z_S, inside, channel, DH, EVEN).to(tl.float32)
            normed = (hidden[b] - mean[:, None]) * deviation[:, None]
            normed = normed * load_vector(norm, at, in_head(channel, DH, BD))[None, :]
            normed += load_vector(norm_bias, at, in_head(channel, DH, BD))[None, :]
            normed += load_vector(skip, at, in_head(channel, DH, BD))[None, :] * c_tile
            store_tile(y, normed * silu(z_tile), token, q_S, inside, channel, DH, EVEN)
