"""The chunkwise form of the mLSTM: linear time and memory in the number of tokens S.

The sequence is cut into chunks of L tokens. Inside a chunk every token sees the tokens before it through an L x L matrix
(the parallel form); what came before the chunk it sees through the state (C, n). Chunks run together in segments, and
the state is carried from one segment to the next.

All exponents come from one float64 computation over the whole sequence (`gate_weights`). With a = logsigmoid(f),

    A_t = a_1 + ... + a_t,    z_t = max over s <= t of (i_s - A_s),    m_t = A_t + z_t    (the stabiliser)

token s has the weight exp(A_t - A_s + i_s - m_t) at token t. A state is stored divided by exp(z) of the last token that
it contains: forget gates cancel in it, and since z never falls, no factor between two states exceeds 1.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
"""Largest number of tokens in a chunk."""
SEGMENT_TOKENS = 1024
"""Largest number of tokens in a segment: the arrays of a segment should stay in the caches of a CPU."""
NEVER = -(2.0**100)
"""The logarithm of a weight that is zero; finite, so that the difference of two is finite."""

State = tuple[Tensor, Tensor]
"""The matrix memory C (H, DH, DH) and the normaliser n (H, DH), both divided by exp(z)."""


class GateWeights(NamedTuple):
    """Holds the factors that the gates give to a segment of N chunks of L tokens, for H heads of all sequences.

    `tokens` has eight rows: the two terms of the exponent inside a chunk (row, col) as sums of a high and a low part
    (high row, high col, low row, low col); `read`, the factor of the state before the chunk; `write`, the factor of the
    token in the state after its chunk; `floor`, exp(-m), the least normaliser; `eps`, added to the normaliser. `read`,
    `floor`, `eps` and the exponents leave out exp(-max(m, 0)), by which numerator and normaliser are divided.
    """

    tokens: Tensor  # (8, H, N, L), in the dtype of the computation
    z_of_states: Tensor  # (H, N + 1), float64: z of the state before each chunk, and of the state after the segment
    z_of_writes: Tensor  # (H, N + 1), float64: z of the state before the segment, and of what each chunk adds
    contained: Tensor  # (N + 1, N + 1), 0 or -inf: whether the state of the row contains the addition of the column
    causal: Tensor  # (L, L), 0 or -inf: whether the token of the row sees the token of the column


Step = Callable[[Sequence[Tensor], GateWeights, State | None], tuple[Tensor, State]]
"""Processes one segment: tensors (B, N, L, ...), gates and the state before it to an output and the state after it."""


def mlstm_chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the chunkwise form, for any S; see `ops.mlstm` for the arguments."""
    B, NH, S, DH = q.shape

    def step(tensors: Sequence[Tensor], gates: GateWeights, state: State | None) -> tuple[Tensor, State]:
        return chunk_outputs(*tensors, gates, state)

    heads = [x.reshape(B * NH, S, DH) for x in (q, k, v)]
    parts = run_segments(step, heads, i.reshape(B * NH, S), f.reshape(B * NH, S), eps, reverse)
    return torch.cat(parts, 1).view(B, NH, S, DH)


def mlstm_one_segment(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the chunkwise form without a loop over segments, for tracers and exporters: one graph for any S.

    The last chunk is filled up with tokens that are neither read nor written. The factors between the N chunks are an
    N x N matrix, so this form suits sequences of up to about 20,000 tokens.
    """
    B, NH, S, DH = q.shape
    padding = -S % CHUNK
    q, k, v = (F.pad(x, (0, 0, 0, padding)).reshape(B * NH, -1, CHUNK, DH) for x in (q, k, v))
    i = F.pad(i, (0, padding), value=NEVER).reshape(B * NH, -1)
    f = F.pad(f, (0, padding), value=-NEVER).reshape(B * NH, -1)
    tokens, z_before, z_after = gate_weights(i, f, CHUNK, eps, reverse)
    gates = _of_segment(tokens.unflatten(-1, (-1, CHUNK)), z_before, z_after, reverse)
    h, _ = chunk_outputs(q, k, v, gates, None)
    return h.reshape(B, NH, -1, DH)[:, :, :S]


def run_segments(
    step: Step, tensors: Sequence[Tensor], i: Tensor, f: Tensor, eps: float, reverse: bool
) -> list[Tensor]:
    """Applies `step` to consecutive segments, carrying the state; returns its outputs (B, tokens, ...) in tensor order.

    Args:
        step: see `Step`.
        tensors: (B, S, ...) each.
        i, f: gate pre-activations of all heads, (H, S), float32 or float64.
        eps: see `ops.mlstm`.
        reverse: the recurrence runs from the last token to the first, and so do the segments.
    """
    S = i.shape[-1]
    L = chunk_length(S)
    lengths = segment_lengths(S, L, tensors[0].shape[0])
    chunks = [-(-length // L) for length in lengths]
    tokens, z_before, z_after = gate_weights(i, f, L, eps, reverse)
    # Split once: the gradient of a slice is as long as the tensor that it was cut from.
    pieces = zip(*(x.split(lengths, 1) for x in tensors), strict=True)
    gates = zip(tokens.split(lengths, -1), z_before.split(chunks, -1), z_after.split(chunks, -1), strict=True)
    jobs = list(zip(pieces, gates, chunks, strict=True))
    outputs, state = [], None
    for piece, (token, before, after), N in reversed(jobs) if reverse else jobs:
        gate = _of_segment(token.unflatten(-1, (N, -1)), before, after, reverse)
        output, state = step([x.unflatten(1, (N, -1)) for x in piece], gate, state)
        outputs.append(output.flatten(1, 2))
    return outputs[::-1] if reverse else outputs


def chunk_length(S: int) -> int:
    """Returns the number of tokens L <= `CHUNK` of all chunks but the last, such that the last one is nearly full."""
    return -(-S // -(-S // CHUNK))


def segment_lengths(S: int, L: int, B: int) -> list[int]:
    """Returns the tokens of each segment: several whole chunks each, about equal; then what is left, less than L."""
    whole = S // L
    count = -(-whole // max(1, SEGMENT_TOKENS // (L * B)))
    borders = [whole * index // count * L for index in range(count + 1)]
    lengths = [stop - start for start, stop in zip(borders, borders[1:], strict=False)]
    return [*lengths, S - whole * L] if whole * L < S else lengths


def gate_weights(i: Tensor, f: Tensor, L: int, eps: float, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns `tokens` of `GateWeights`, (8, H, S), and z before and after each chunk, (H, ceil(S / L)), float64.

    Float64, because differences of long sums are taken; the gates are small beside q, k and v.

    Args:
        i, f: input and forget gate pre-activations, (H, S).
        L: tokens of a chunk; the last chunk may have fewer.
        eps, reverse: see `ops.mlstm`.
    """
    dtype, S = i.dtype, i.shape[-1]
    i, f = i.double(), f.double()
    A = _along_scan(lambda x: x.cumsum(-1), F.logsigmoid(f), reverse)
    col = i - A
    z = _along_scan(_running_maximum, col, reverse)
    m = A + z
    m_out = m.clamp(min=0).to(dtype).double()  # rounded once, so that all factors leave out the same number
    row = A - m_out

    start = torch.arange(0, S, L, device=i.device)
    stop = (start + L).clamp(max=S)
    z_padded = F.pad(z, (1, 1), value=NEVER)  # z of token t is at t + 1
    before, after = (stop + 1, start + 1) if reverse else (start, stop)
    z_before, z_after = z_padded.index_select(-1, before), z_padded.index_select(-1, after)
    chunk_of_token = torch.arange(S, device=i.device) // L
    read = row + z_before.index_select(-1, chunk_of_token)
    write = col - z_after.index_select(-1, chunk_of_token)

    exponents = torch.stack([row, col])
    high = exponents.to(dtype)
    factors = torch.stack([read, write, -m_out, m - m_out]).exp()
    factors = torch.cat([factors[:3], eps * factors[3:]])
    return torch.cat([high, (exponents - high).to(dtype), factors.to(dtype)]), z_before, z_after


def _along_scan(function: Callable[[Tensor], Tensor], x: Tensor, reverse: bool) -> Tensor:
    return function(x.flip(-1)).flip(-1) if reverse else function(x)


def _running_maximum(x: Tensor) -> Tensor:
    """Returns the maximum up to each position of the last axis.

    Exporters know no `cummax`; for them, steps of 1, 2, 4, ... positions reach back over 2^20 positions.
    """
    if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):
        return x.cummax(-1).values
    for exponent in range(20):
        earlier = F.pad(x, (2**exponent, 0), value=NEVER)[..., : x.shape[-1]]
        x = torch.maximum(x, earlier)
    return x


def _of_segment(tokens: Tensor, z_before: Tensor, z_after: Tensor, reverse: bool) -> GateWeights:
    """Returns the gates of a segment from those of its tokens, (8, H, N, L), and its chunks, (H, N)."""
    N, L = tokens.shape[-2:]
    first, last = (-1, 0) if reverse else (0, -1)
    hidden = tokens.new_full((max(N, L) + 1,) * 2, -torch.inf)
    contained = hidden[: N + 1, : N + 1].triu(1)
    causal = hidden[:L, :L].triu(1)
    if reverse:
        contained = hidden[: N + 1, : N + 1].tril(1)
        contained = torch.cat([torch.zeros_like(contained[:, :1]), contained[:, 1:]], 1)
        contained = torch.cat([contained[:-1], torch.zeros_like(contained[:1])])
        causal = causal.mT
    return GateWeights(
        tokens,
        torch.cat([z_before, z_after[:, last, None]], 1),
        torch.cat([z_before[:, first, None], z_after], 1),
        contained,
        causal,
    )


def chunk_outputs(q: Tensor, k: Tensor, v: Tensor, gates: GateWeights, state: State | None) -> tuple[Tensor, State]:
    """Computes the hidden states of a segment, (H, N, L, DH), and the state after it.

    Args:
        q, k, v: (H, N, L, DH); in half precision the products are in half precision too, the sums in float32.
        gates: see `GateWeights`; their dtype is that of the result.
        state: the state before the segment; None before the first one.
    """
    H, N, L, DH = q.shape
    row, col, row_low, col_low, read, write, floor, eps = gates.tokens
    C, n, state = _states(k, v, write, gates, state)

    q, k, v = (x.reshape(H * N, L, DH) for x in (q, k, v))
    exponent = (row[..., :, None] + col[..., None, :]) + (row_low[..., :, None] + col_low[..., None, :])
    w = (q @ k.mT).view(H, N, L, L) * (torch.exp(exponent + gates.causal) * DH**-0.5)
    del exponent
    from_C = (q @ C.to(q.dtype)).view(H, N, L, DH)
    from_n = (q @ n.to(q.dtype)).view(H, N, L)
    numerator = (w.view(H * N, L, L).to(v.dtype) @ v).view(H, N, L, DH) + read[..., None] * from_C
    normaliser = torch.maximum((w.sum(-1) + read * from_n).abs(), floor) + eps
    return numerator / normaliser[..., None], state


def _states(
    k: Tensor, v: Tensor, write: Tensor, gates: GateWeights, state: State | None
) -> tuple[Tensor, Tensor, State]:
    """Computes C (H * N, DH, DH) and n (H * N, DH, 1) before each chunk, and the state after the segment."""
    H, N, L, DH = k.shape
    k_write = (k * (write * DH**-0.5)[..., None]).reshape(H * N, L, DH)
    C_write = (k_write.to(v.dtype).mT @ v.reshape(H * N, L, DH)).view(H, N, DH * DH).to(write.dtype)
    n_write = k_write.sum(1).view(H, N, DH)
    exponent = gates.z_of_writes[:, None, :] - gates.z_of_states[:, :, None]
    factors = torch.exp(exponent + gates.contained).to(write.dtype)
    of_writes, of_state = factors[..., 1:], factors[..., :1]
    C, n = of_writes[:, :-1] @ C_write, of_writes[:, :-1] @ n_write
    C_after, n_after = of_writes[:, -1:] @ C_write, of_writes[:, -1:] @ n_write
    if state is not None:
        C_state, n_state = state[0].view(H, 1, DH * DH), state[1].view(H, 1, DH)
        C, n = C + of_state[:, :-1] * C_state, n + of_state[:, :-1] * n_state
        C_after, n_after = C_after + of_state[:, -1:] * C_state, n_after + of_state[:, -1:] * n_state
    return C.view(H * N, DH, DH), n.view(H * N, DH, 1), (C_after.view(H, DH, DH), n_after.view(H, DH))
