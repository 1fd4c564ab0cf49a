"""Loads, stores and multiplies tiles for all kernels: tokens by channels, 4 x 4 maps as tiles.

`position` counts tokens along the scan, `token` along the tensor; they differ where the scan is reversed.
"""

import os

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("the mLSTM backend 'triton' needs the package triton: pip install triton") from error

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on the CPU."""
WIDEN = tl.constexpr(INTERPRETED)  # the interpreter multiplies bfloat16 as if its bits were integers
NEVER = tl.constexpr(-(2.0**100))  # the logarithm of a weight that is zero; finite, so that differences are numbers


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Returns acc + a b, summed in float32."""
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def cast(x, like: tl.constexpr):
    """Rounds to the dtype `like`; beyond the largest float16 a value saturates, and NaN stays NaN."""
    if like == tl.float16:
        x = tl.clamp(x, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    return x.to(like)


@triton.jit
def sigmoid(x):
    """Returns the sigmoid without overflow."""
    small = tl.exp(-tl.abs(x))  # the other sign would overflow
    return tl.where(x > 0, 1.0, small) / (1 + small)


@triton.jit
def silu(x):
    """Returns x times its sigmoid."""
    return x * sigmoid(x)


@triton.jit
def tokens_at(position, S, REVERSE: tl.constexpr, LARGE: tl.constexpr):
    """Returns the tokens at positions of the scan; LARGE: int64, as a sequence has more than 2^31 elements."""
    if LARGE:
        position = position.to(tl.int64)
    return S - 1 - position if REVERSE else position


@triton.jit
def tile_positions(tile, S, BT: tl.constexpr, REVERSE: tl.constexpr, LARGE: tl.constexpr):
    """Returns the positions of a tile in the scan, their tokens, and which of them are before the end."""
    position = tile * BT + tl.arange(0, BT)
    return position, tokens_at(position, S, REVERSE, LARGE), position < S


@triton.jit
def channels_of(block, DH: tl.constexpr, BD: tl.constexpr, MAPS: tl.constexpr):
    """Returns the channels of a head that the lanes of a tile of BD hold; DH, which is none, behind the last.

    With MAPS lanes are 4 channels of BD / 4 blocks of the maps: those of one block are BD / 4 lanes apart, and DH / 4
    channels in memory (see `CellWeights`). Without maps channels are in order.
    """
    lane = tl.arange(0, BD)
    if MAPS:
        # What does not depend on the block comes first: blocks then share it, and its registers.
        channel = (lane // (BD // 4) * (DH // 4 - BD // 4) + lane) + block * (BD // 4)
        if DH % BD != 0:
            channel = tl.where(block * (BD // 4) + lane % (BD // 4) < DH // 4, channel, DH)
    else:
        channel = block * BD + lane
    return channel


@triton.jit
def at_head(tensors, batch, n, stride_B, stride_NH):
    """Returns pointers to head `n` of a sequence in each of some tensors that lie alike."""
    out = ()
    for b in tl.static_range(len(tensors)):
        out = out + (tensors[b] + batch * stride_B + n * stride_NH,)
    return out


@triton.jit
def in_head(channel, DH: tl.constexpr, BD: tl.constexpr):
    """Returns whether channels are inside the head; true without a test if blocks fill it."""
    return (channel < DH) | (DH % BD == 0)


@triton.jit
def block_entries(channel, DH: tl.constexpr):
    """Locates the gradients of the blocks of a map, (4 in, 4 out, DH / 4), in x^T y, (BD out, BD in).

    channel: see `channels_of`. Returns places in memory, and which elements of the product they are.
    """
    out, into = channel[:, None], channel[None, :]
    same = (out % (DH // 4) == into % (DH // 4)) & (out < DH) & (into < DH)
    return into // (DH // 4) * DH + out, same


@triton.jit
def load_tile(x, token, stride, inside, channel, DH: tl.constexpr, EVEN: tl.constexpr):
    """Loads tokens by channels; zeros where `inside` is false or, unless EVEN, behind the last channel."""
    mask = inside[:, None] if EVEN else inside[:, None] & (channel < DH)[None, :]
    return tl.load(x + token[:, None] * stride + channel[None, :], mask=mask, other=0.0)


@triton.jit
def store_tile(x, value, token, stride, inside, channel, DH: tl.constexpr, EVEN: tl.constexpr):
    """Stores a tile in the layout of `load_tile`."""
    mask = inside[:, None] if EVEN else inside[:, None] & (channel < DH)[None, :]
    tl.store(x + token[:, None] * stride + channel[None, :], cast(value, x.dtype.element_ty), mask=mask)


@triton.jit
def load_vector(x, at, mask):
    """Loads numbers as float32; zeros without a tensor or where `mask` is false."""
    if x is None:
        value = tl.zeros(at.shape, tl.float32)
    else:
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    return value


@triton.jit
def load_map(tiles, head, block, BD: tl.constexpr, NB: tl.constexpr, IN_FIRST: tl.constexpr):
    """Loads a tile of the block-diagonal matrix of a map, (BD in, BD out) or else (BD out, BD in); see `fold_maps`."""
    row = tl.arange(0, BD)
    tile = tl.load(tiles + ((head * NB + block) * BD + row[:, None]) * BD + row[None, :])
    return tl.trans(tile) if IN_FIRST else tile


@triton.jit
def zero_tiles(NB: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr):
    """Returns NB tiles of zeros, float32: one for each block of channels."""
    tiles = (tl.zeros((BT, BD), tl.float32),)
    for _ in tl.static_range(NB - 1):
        tiles = tiles + (tl.zeros((BT, BD), tl.float32),)
    return tiles


@triton.jit
def query_tile(q, token, stride, inside, block, head, q_map, q_map_bias,
               DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, MAPS: tl.constexpr,
               PRECISION: tl.constexpr):  # fmt: skip
    """Loads queries of a block of channels; with MAPS it makes them from c by the folded map of q and k."""
    channel = channels_of(block, DH, BD, MAPS)
    x = load_tile(q, token, stride, inside, channel, DH, DH % BD == 0)
    if MAPS:
        matrix = load_map(q_map, head, block, BD, NB, True)
        bias = load_vector(q_map_bias, head * DH + channel, channel < DH)
        y = dot(x, matrix, tl.zeros((token.shape[0], BD), tl.float32) + bias[None, :], PRECISION)
        x = cast(y, x.dtype)
    return x


@triton.jit
def query_tiles(q, token, stride, inside, head, q_map, q_map_bias,
                DH: tl.constexpr, BD: tl.constexpr, NB: tl.constexpr, MAPS: tl.constexpr,
                PRECISION: tl.constexpr):  # fmt: skip
    """Returns the queries of all channels of a head, NB tiles."""
    tiles = (query_tile(q, token, stride, inside, 0, head, q_map, q_map_bias, DH, BD, NB, MAPS, PRECISION),)
    for b in tl.static_range(1, NB):
        tiles = tiles + (query_tile(q, token, stride, inside, b, head, q_map, q_map_bias, DH, BD, NB, MAPS, PRECISION),)
    return tiles


@triton.jit
def log_sums(stats, plane, position, S):
    """Loads a sum of two float32 numbers, `stats[0]` and `stats[1]`; NEVER behind the end of the sequence."""
    high = tl.load(stats + position, mask=position < S, other=NEVER)
    return high, tl.load(stats + plane + position, mask=position < S, other=0.0)


@triton.jit
def decays(row, row_low, column, column_low, at_row, at_column):
    """Returns the decay of the token at position `at_column` until `at_row`; zero if it comes later.

    Each logarithm is a sum of two numbers, so that large ones may cancel.
    """
    log = (row[:, None] + column[None, :]) + (row_low[:, None] + column_low[None, :])
    return tl.exp(tl.where(at_row[:, None] >= at_column[None, :], log, float("-inf")))
