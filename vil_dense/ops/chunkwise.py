"""The mLSTM chunk by chunk: linear in S, in time and in memory, in training too.

Inside a chunk of L tokens the parallel form runs. What the N chunks of a segment hand on to each other is one small
matrix of decays, so a segment has no loop, and one compiled graph serves every length, both directions, and several
short sequences at once. Between the segments of a long sequence the state (C, n, m) is carried. In training a segment
is recomputed in the backward pass: only inputs and states are kept for it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 64
CHUNKS_PER_SEGMENT = 8
CHANNELS_PER_SEGMENT = 768
"""Of a head, summed over chunks: so many whole sequences of narrow heads run at once."""

State = tuple[Tensor, Tensor, Tensor]
"""C (NH, DH, DH) and n (NH, DH), both scaled by e^{-max(m, 0)}, and m (NH)."""


class Places(NamedTuple):
    """Where the N x L tokens of a segment stand; in tensors, so that a compiled segment serves both directions."""

    chunks: Tensor  # (N), the turn of each chunk in the scan, int64
    future: Tensor  # (L, L), -inf where the turn of the column's token comes after that of the row's, else 0
    sequence: Tensor  # (N), the number of the sequence that a chunk is from, int64
    missing: Tensor  # (N, L), True where a token only fills up the last chunk


def cut(S: int) -> tuple[int, int]:
    """N and L: a sequence of S tokens as N chunks of L <= `CHUNK` tokens, N * L >= S; fewer than L are missing."""
    N = -(-S // CHUNK)
    return N, -(-S // N)


def segments(B: int, N: int, DH: int, reverse: bool) -> list[tuple[slice, bool]]:
    """Which of the B * N chunks of B sequences run at once, in the order of the scan; whether they begin a sequence.

    Either some whole short sequences or a part of a long one. What lives inside such a part is to stay small beside its
    sequence: narrow heads, whose L x L weights outweigh q k v, get small parts. Parts are about equal, so that none is
    left alone.
    """
    short = max(CHUNKS_PER_SEGMENT, CHANNELS_PER_SEGMENT // DH)
    if short >= N:
        group = -(-B // -(-B * N // short))
        return [(slice(b * N, min(b + group, B) * N), True) for b in range(0, B, group)]
    count = -(-N // max(1, min(CHUNKS_PER_SEGMENT, DH // 8)))
    borders = [N * index // count for index in range(count + 1)]
    parts = list(pairwise(borders))[:: -1 if reverse else 1]
    return [
        (slice(b * N + start, b * N + stop), index == 0) for b in range(B) for index, (start, stop) in enumerate(parts)
    ]


def scan(
    run: Callable[[list[Tensor], Places, State | None], tuple[Tensor, State]],
    tensors: Sequence[Tensor],
    S: int,
    DH: int,
    reverse: bool,
) -> list[Tensor]:
    """What `run` makes of each segment and of the state before it, None before a sequence; in the order of the tensors.

    Args:
        run: is given the segment's part of `tensors`; returns its output and the state after it.
        tensors: (_, B * N, L, ...), the chunks of B sequences.
        S, DH: tokens of a sequence, width of the heads.
        reverse: the scan begins at the last token.
    """
    (N, L), device = cut(S), tensors[0].device
    B = tensors[0].shape[1] // N
    chunks, tokens = torch.arange(B * N, device=device), torch.arange(L, device=device)
    sequence, missing = chunks // N, (chunks % N * L)[:, None] + tokens >= S
    future = torch.full((L, L), -torch.inf, device=device).triu_(1)
    future = future.mT.contiguous() if reverse else future
    plan = segments(B, N, DH, reverse)
    starts, lengths = zip(*sorted((part.start, part.stop - part.start) for part, _ in plan), strict=True)
    # Split once: the gradient of a slice is as long as what it was cut from, and there is one for each segment.
    pieces = dict(zip(starts, zip(*(x.split(lengths, 1) for x in tensors), strict=True), strict=True))
    parts, state = {}, None
    for part, first in plan:
        order = torch.arange(part.stop - part.start, device=device)
        places = Places(order.flip(0) if reverse else order, future, sequence[part], missing[part])
        parts[part.start], state = run(list(pieces[part.start]), places, None if first else state)
    return [parts[start] for start in starts]


def mlstm_chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """The chunkwise form, for any S; see `ops.mlstm`."""
    B, NH, S, DH = q.shape
    N, L = cut(S)
    if missing := N * L - S:
        q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
        i, f = (F.pad(x, (0, missing)) for x in (i, f))
    # Heads of all sequences are heads of one: they share the chunks' places.
    chunks = [x.reshape(B * NH, N, L, *x.shape[3:]) for x in (q, k, v, i, f)]

    def run(inputs: list[Tensor], places: Places, state: State | None) -> tuple[Tensor, State]:
        arguments: tuple[Any, ...] = (*inputs, places, state, eps)
        if torch.is_grad_enabled():
            return checkpoint(mlstm_segment, *arguments, use_reentrant=False, preserve_rng_state=False)
        return mlstm_segment(*arguments)

    return torch.cat(scan(run, chunks, S, DH, reverse), 1).view(B, NH, N * L, DH)[:, :, :S]


def mlstm_segment(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, places: Places, state: State | None, eps: float
) -> tuple[Tensor, State]:
    """Hidden states of N chunks, (NH, N, L, DH), and the state after them.

    Args:
        q, k, v: (NH, N, L, DH), float32 or float64.
        i, f: (NH, N, L).
        places: of the tokens; nothing is turned round for a reversed scan.
        state: before the segment; None before a sequence.
    """
    NH, N, L, DH = q.shape
    gate = _gates(i, f, None if state is None else state[2], eps, places)
    C, n, state = _states(k, v, gate, places, state)

    # The tokens of a chunk see each other, and the state before their chunk.
    q, k, v = (x.reshape(NH * N, L, DH) for x in (q, k, v))
    log_w = (gate.b[..., :, None] - gate.b[..., None, :]) + (gate.i[..., None, :] - gate.m_out[..., :, None])
    w = (q @ k.mT).view(NH, N, L, L) * (torch.exp(log_w + places.future) * DH**-0.5)
    del log_w
    of_state = gate.read.view(NH * N, L, 1) * (q @ C)
    h = (w.view(NH * N, L, L) @ v + of_state).view(NH, N, L, DH)
    dot = w.sum(-1) + gate.read * (q @ n)[..., 0].view(NH, N, L)
    return h / (torch.maximum(dot.abs(), gate.floor) + gate.eps)[..., None], state


def _states(k: Tensor, v: Tensor, gate: "_Gates", places: Places, state: State | None) -> tuple[Tensor, Tensor, State]:
    """C (NH * N, DH, DH) and n (NH * N, DH, 1) before each chunk, a decayed sum of what those before it write; and the
    state after the last one."""
    NH, N, L, DH = k.shape
    k_write = (k * (gate.write * DH**-0.5)[..., None]).reshape(NH * N, L, DH).mT
    C_write = (k_write @ v.reshape(NH * N, L, DH)).view(NH, N, DH * DH)
    n_write = k_write.sum(-1).view(NH, N, DH)
    del k_write
    C, n = gate.decay @ C_write, gate.decay @ n_write
    if state is not None:
        C = C + gate.decay_of_state * state[0].view(NH, 1, DH * DH)
        n = n + gate.decay_of_state * state[1].view(NH, 1, DH)
    last = places.chunks[-1:]  # turns are their own inverse
    after = (
        before.index_select(1, last) * gate.keep + written.index_select(1, last) * gate.add
        for before, written in ((C, C_write), (n, n_write))
    )
    C_after, n_after = (x.reshape(NH, *size) for x, size in zip(after, ((DH, DH), (DH,)), strict=True))
    return C.view(NH * N, DH, DH), n.view(NH * N, DH, 1), (C_after, n_after, gate.m_after)


class _Gates(NamedTuple):
    """What a segment needs of its gates, in the order of the tensors; (NH, N, L) each, except where said."""

    decay: Tensor  # (NH, N, N): what is left, before the chunk of the row, of what the chunk of the column wrote
    decay_of_state: Tensor  # (NH, N, 1): of the state before the segment
    keep: Tensor  # (NH, 1, 1): what is left, after the last chunk, of the state before it
    add: Tensor  # (NH, 1, 1): and of what the last chunk wrote
    write: Tensor  # factor of a key in what its chunk writes
    read: Tensor  # factor of the state before the chunk in a token's output
    b: Tensor  # sum of the log forget gates of a chunk up to the token
    i: Tensor
    m_out: Tensor  # outputs are scaled by e^{-m_out}
    floor: Tensor  # the least normaliser, e^{-m_out}
    eps: Tensor
    m_after: Tensor  # (NH)


def _gates(i: Tensor, f: Tensor, m: Tensor | None, eps: float, places: Places) -> _Gates:
    """Decays and stabilisers, from i, f (NH, N, L) and the stabiliser m (NH) of the state before.

    A stabiliser may be rounded: it scales numerator and normaliser alike. Its gradient cancels the rounding in that of
    a gate which outweighs all others, so it is kept. In exponents the large b are subtracted from each other first, and
    the decay between chunks is a sum of its own for each pair of them, no difference of sums.
    """

    # Closed gates: what is missing neither reaches the state nor lets it fade.
    i = i.masked_fill(places.missing, -torch.inf)
    a = F.logsigmoid(f.masked_fill(places.missing, torch.inf))
    b = a @ (places.future.mT == 0).to(a.dtype)
    x = ((i - b)[..., None, :] + places.future).amax(-1)
    g = a.sum(-1)
    top = g + (i - b).amax(-1)
    m = torch.full_like(top[:, 0], -torch.inf) if m is None else m

    # Row: what is left before a chunk; column 0: of the state before the segment, the others: of what a chunk wrote.
    turn, sequence = places.chunks, places.sequence
    turn_of_source = F.pad(turn, (1, 0), value=-1)
    hidden = turn_of_source >= turn[:, None]
    hidden = hidden | (torch.cat([sequence[:1], sequence]) != sequence[:, None])
    between = (turn_of_source < turn[:, None, None]) & (turn[:, None, None] < turn[:, None])
    faded = (g @ between.to(g.dtype).flatten(1)).unflatten(1, hidden.shape)
    m_all = (faded + torch.cat([m[:, None], top], 1)[:, None]).masked_fill(hidden, -torch.inf).amax(-1)
    scale = m_all.clamp(min=0)
    log_decay = faded + (torch.cat([m[:, None].clamp(min=0), top], 1)[:, None] - scale[..., None])
    decay = torch.exp(log_decay.masked_fill(hidden, -torch.inf))

    last = turn[-1:]  # turns are their own inverse
    g_last, m_last, top_last = (y.index_select(1, last)[:, 0] for y in (g, m_all, top))
    m_after = torch.maximum(g_last + m_last, top_last)
    keep, add = ((y - m_after.clamp(min=0)).exp() for y in (g_last + m_last.clamp(min=0), top_last))
    m_t = b + torch.maximum(m_all[..., None], x)
    m_out = m_t.clamp(min=0)
    write = torch.exp((g[..., None] - b) + (i - top[..., None]))
    read = torch.exp((b - m_out) + scale[..., None])
    # Stacked, they are stored: a compiler does not find them anew for each entry of an L x L matrix.
    tokens = torch.stack([write, read, b, i, m_out, torch.exp(-m_out), eps * torch.exp(m_t - m_out)])
    write, read, b, i, m_out, floor, eps_out = tokens
    keep, add = keep.view(-1, 1, 1), add.view(-1, 1, 1)
    return _Gates(decay[..., 1:], decay[..., :1], keep, add, write, read, b, i, m_out, floor, eps_out, m_after)
