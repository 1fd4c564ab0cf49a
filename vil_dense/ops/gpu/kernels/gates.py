"""Sums the logarithms of forget gates, with running maxima; and computes their gradients."""

import triton
import triton.language as tl

from vil_dense.ops.gpu.kernels.tiles import NEVER, sigmoid, tokens_at


@triton.jit
def add_pairs(a, a_low, b, b_low):
    """Adds two numbers of 48 bits, each a sum of two float32; without the rounding error of a sum in float32."""
    total = a + b
    part = total - a
    low = (a - (total - part)) + (b - part) + a_low + b_low
    high = total + low
    return high, low - (high - total)


@triton.jit
def max_pairs(a, a_low, b, b_low):
    """Returns the larger of two pairs."""
    second = (b > a) | ((b == a) & (b_low >= a_low))
    return tl.where(second, b, a), tl.where(second, b_low, a_low)


@triton.jit
def add_segments(a, a_ends, b, b_ends):
    """Adds up sums that begin anew behind an end."""
    return tl.where(b_ends > 0, b, a + b), tl.maximum(a_ends, b_ends)


@triton.jit
def log_sigmoid(x):
    """Returns the logarithm of the sigmoid, by a series where it is close to 0."""
    small = tl.exp(-tl.abs(x))
    series = small * (1 - small * (0.5 - small * (1 / 3 - small * 0.25)))
    return tl.minimum(x, 0.0) - tl.where(small < 0.01, series, tl.log(1 + small))


@triton.jit
def last(x, BLOCK: tl.constexpr):
    """Returns the last element of a block."""
    return tl.sum(tl.where(tl.arange(0, BLOCK) == BLOCK - 1, x, 0.0), 0)


@triton.jit
def load_gate(x, at, part_stride, PARTS, inside):
    """Sums the parts of a pre-activation."""
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    for part in range(1, PARTS):
        value += tl.load(x + part * part_stride + at, mask=inside, other=0.0).to(tl.float32)
    return value


@triton.jit
def gate_sums(
    i, f, constants, i_bias, f_bias, stats, maxima,
    stride_B, stride_NH, stride_S, part_stride, PARTS, NH, S, N, L, CONSTANTS,
    BLOCK: tl.constexpr, BLOCK_CONSTANTS: tl.constexpr, MAPS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Computes for one head what the scan needs of its gates, along the scan; see `ops/README.md`.

    stats, (8, B * NH, S): the sums row and col (each in two parts), m, beta, f, and whether a token sets the maximum z.
    maxima, (2, B * NH, N): z at the end of each chunk, in two parts. With MAPS i holds all pre-activations of a token,
    16 numbers: i, f and beta of each head.
    """
    head = tl.program_id(0).to(tl.int64)
    heads = tl.num_programs(0).to(tl.int64)
    n = head % NH
    start = (head // NH) * stride_B + n * stride_NH
    plane = heads * S
    i_constant, f_constant, beta_constant = 0.0, 0.0, 0.0
    if MAPS:
        block = tl.arange(0, BLOCK_CONSTANTS)
        i_constant = tl.sum(tl.load(constants + block * 16 + n, mask=block < CONSTANTS, other=0.0), 0)
        f_constant = tl.sum(tl.load(constants + block * 16 + 4 + n, mask=block < CONSTANTS, other=0.0), 0)
        beta_constant = tl.sum(tl.load(constants + block * 16 + 8 + n, mask=block < CONSTANTS, other=0.0), 0)
        i_constant += tl.load(i_bias + n).to(tl.float32)
        f_constant += tl.load(f_bias + n).to(tl.float32)
    A_end, A_end_low, z_end, z_end_low = 0.0, 0.0, NEVER, 0.0
    for first in range(0, S, BLOCK):
        position = first + tl.arange(0, BLOCK)
        inside = position < S
        at = start + tokens_at(position, S, REVERSE, True) * stride_S
        i_gate = load_gate(i, at, part_stride, PARTS, inside) + i_constant
        f_gate = load_gate(i + 4 if MAPS else f, at, part_stride, PARTS, inside) + f_constant
        a = tl.where(inside, log_sigmoid(f_gate), 0.0)
        A, A_low = tl.associative_scan((a, tl.zeros_like(a)), 0, add_pairs)
        A, A_low = add_pairs(A, A_low, A_end, A_end_low)
        column, column_low = add_pairs(i_gate, tl.zeros_like(a), -A, -A_low)
        column = tl.where(inside, column, NEVER)
        z, z_low = tl.associative_scan((column, column_low), 0, max_pairs)
        z, z_low = max_pairs(z, z_low, z_end, z_end_low)
        m = (A + z) + (A_low + z_low)
        row, row_low = add_pairs(A, A_low, -tl.maximum(m, 0.0), tl.zeros_like(a))
        out = stats + head * S + position
        tl.store(out, row, mask=inside)
        tl.store(out + plane, row_low, mask=inside)
        tl.store(out + 2 * plane, column, mask=inside)
        tl.store(out + 3 * plane, column_low, mask=inside)
        tl.store(out + 4 * plane, m, mask=inside)
        if MAPS:
            tl.store(out + 5 * plane, load_gate(i + 8, at, part_stride, PARTS, inside) + beta_constant, mask=inside)
        tl.store(out + 6 * plane, f_gate, mask=inside)
        tl.store(out + 7 * plane, ((column == z) & (column_low == z_low)).to(tl.float32), mask=inside)
        ends = inside & (((position + 1) % L == 0) | (position == S - 1))
        tl.store(maxima + head * N + position // L, z, mask=ends)
        tl.store(maxima + heads * N + head * N + position // L, z_low, mask=ends)
        A_end, A_end_low, z_end, z_end_low = last(A, BLOCK), last(A_low, BLOCK), last(z, BLOCK), last(z_low, BLOCK)


@triton.jit
def add(a, b):
    """Adds two values; the operation of a scan."""
    return a + b


@triton.jit
def crossing(products, chunk, PRODUCTS, BLOCK_PRODUCTS: tl.constexpr):
    """Sums the parts of the gradient of all pairs of tokens that cross the end of a chunk; 0 before the first."""
    part = tl.arange(0, BLOCK_PRODUCTS)
    exists = (part < PRODUCTS) & (tl.zeros_like(part) + chunk >= 0)
    return tl.sum(tl.load(products + chunk * PRODUCTS + part, mask=exists, other=0.0), 0)


@triton.jit
def gate_gradients(
    stats, sums, products, di, df,
    stride_B, stride_NH, stride_S, NH, S, N, L, PRODUCTS,
    BLOCK: tl.constexpr, BLOCK_PRODUCTS: tl.constexpr, MAPS: tl.constexpr, REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Computes the gradients of the pre-activations of one head, from the last chunk to the first.

    sums, (5, B * NH, S): gradients of the logarithms row and col but at s = t, of both at s = t, of m through the
    normaliser, and of beta. products, (B * NH, N, PRODUCTS): see `crossing`.

    With exact products it also hands on what is left, as rounded, of gradients that cancel: those of m where h is
    divided by e^m, and of z at the end of each chunk. They belong to the token that sets the maximum. If it outweighs
    all others its own gradient consists of terms dh . v - dh . h that cancel, and what is left takes their error away.
    """
    head = tl.program_id(0).to(tl.int64)
    plane = tl.num_programs(0).to(tl.int64) * S
    start = (head // NH) * stride_B + (head % NH) * stride_NH
    m_behind, z_behind = 0.0, 0.0
    for step in range(N):
        chunk = N - 1 - step
        behind, rest = 0.0, 0.0
        if products is not None:
            behind = crossing(products + head * N * PRODUCTS, chunk, PRODUCTS, BLOCK_PRODUCTS)
        end = tl.minimum((chunk + 1) * L, S)
        blocks = (end - chunk * L + BLOCK - 1) // BLOCK
        if PRECISION == "ieee" and products is not None:
            rest = behind - crossing(products + head * N * PRODUCTS, chunk - 1, PRODUCTS, BLOCK_PRODUCTS)
            for first in range(chunk * L, end, BLOCK):
                position = first + tl.arange(0, BLOCK)
                at = head * S + position
                drow = tl.load(sums + at, mask=position < end, other=0.0)
                rest += tl.sum(drow - tl.load(sums + plane + at, mask=position < end, other=0.0), 0)
        for inner in range(blocks):
            position = chunk * L + (blocks - 1 - inner) * BLOCK + tl.arange(0, BLOCK)
            inside = position < end
            at = head * S + position
            # A token that sets a new maximum takes the gradients of z up to the next that does.
            drow = tl.load(sums + at, mask=inside, other=0.0)
            ddiagonal = tl.load(sums + 2 * plane + at, mask=inside, other=0.0)
            dm = tl.load(sums + 3 * plane + at, mask=inside, other=0.0)
            if PRECISION == "ieee":
                m = tl.load(stats + 4 * plane + at, mask=inside, other=0.0)
                dm -= tl.where(m > 0, drow + ddiagonal, 0.0)
            sets = tl.load(stats + 7 * plane + at, mask=inside, other=0.0)
            ends = tl.load(stats + 7 * plane + at + 1, mask=inside & (position + 1 < S), other=0.0)
            dz = tl.where(position == end - 1, dm + rest, dm)
            dz, ended = tl.associative_scan((dz, ends), 0, add_segments, reverse=True)
            dz += tl.where(ended > 0, 0.0, z_behind)
            z_behind = tl.sum(tl.where(tl.arange(0, BLOCK) == 0, dz, 0.0), 0)
            dz *= sets
            crossing_m = tl.associative_scan(dm - dz, 0, add, reverse=True) + m_behind
            m_behind += tl.sum(dm - dz, 0)
            # The forget gate of a token scales all pairs with the one before it and the other not.
            dcolumn = tl.load(sums + plane + at, mask=inside, other=0.0)
            da = tl.associative_scan(drow - dcolumn, 0, add, reverse=True) + behind + crossing_m
            behind += tl.sum(drow - dcolumn, 0)
            f = tl.load(stats + 6 * plane + at, mask=inside, other=0.0)
            di_gate = dcolumn + (ddiagonal + dz)
            out = start + tokens_at(position, S, REVERSE, True) * stride_S
            tl.store(di + out, di_gate, mask=inside)
            tl.store((di + 4 if MAPS else df) + out, da * sigmoid(-f), mask=inside)
            if MAPS:
                tl.store(di + 8 + out, tl.load(sums + 4 * plane + at, mask=inside, other=0.0), mask=inside)
                tl.store(di + 12 + out, tl.zeros((BLOCK,), tl.float32), mask=inside)
