"""Computes the chunkwise form of the mLSTM: linear time and memory in the number of tokens S.

The sequence is cut into chunks of L tokens. Inside a chunk every token sees the tokens before it through an L x L
matrix (the parallel form); what came before the chunk it sees through the state (C, n). Chunks run together in
segments, and the state is carried from one segment to the next.

All exponents come from one float64 computation over the whole sequence (`gate_factors`). With a = logsigmoid(f),

    A_t = a_1 + ... + a_t,    z_t = max over s <= t of (i_s - A_s),    m_t = A_t + z_t    (the stabiliser)

token s has the weight exp(A_t - A_s + i_s - m_t) at token t. The state after token t is stored divided by exp(m_t), as
the sum of exp(i_s - A_s - z_t) k_s v_s^T: forget gates cancel in it, and since z never falls, no factor between two
states exceeds 1.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vil_dense.ops.operators import traced

CHUNK = 64
"""Largest number of tokens in a chunk."""
TOKENS_PER_THREAD = 1024
"""Largest number of tokens of all sequences in a segment of the cell on a CPU, for each of its threads: the arrays of a
segment should fit the caches, and fewer segments need less time between them."""
GPU_CHUNKS = 32
"""Largest number of chunks in a segment on a GPU, where a few large kernels take less time than many small ones."""
CPU_CHUNKS = 8
"""Largest number of chunks in a segment on a CPU: the factors between N chunks are an N x N matrix."""
CHANNELS_PER_CHUNK = 24
"""Channels of a head for each chunk in a segment of the operator on a CPU: narrow heads, whose L x L weights outweigh
q, k and v, get short segments."""
NEVER = -(2.0**100)
"""The logarithm of a weight that is zero; finite, so that the difference of two is finite."""

State = tuple[Tensor, Tensor]
"""The matrix memory C (H, DH, DH) and the normaliser n (H, DH), both divided by exp(m) of their last token."""


class GateFactors(NamedTuple):
    """Holds the factors that the gates give to a segment of N chunks of L tokens, for H heads of all sequences.

    `tokens` has eight rows: the two terms of the exponent inside a chunk (row, col) as sums of a high and a low part
    (high row, high col, low row, low col); `read`, the factor of the state before the chunk; `write`, the factor of the
    token in the state after its chunk; `floor`, exp(-max(m, 0)), the least normaliser; `eps`, added to the normaliser.
    Numerator and normaliser are both multiplied by exp(m - max(m, 0)): `read`, `eps` and the exponents include it.
    """

    tokens: Tensor  # (8, H, N, L), in the dtype of the computation
    peak_of_states: Tensor  # (H, N + 1), float64: z of the state before each chunk, and of the state after the segment
    peak_of_writes: Tensor  # (H, N + 1), float64: z of the state before the segment, and of what each chunk adds
    contained: Tensor  # (N + 1, N + 1), 0 where the state of the row contains the addition of the column, else -inf
    causal: Tensor  # (L, L), 0 or -inf: whether the token of the row sees the token of the column


Step = Callable[..., tuple[Tensor, State | None]]
"""Maps a segment of all tensors (B, N, L, E), its gates, the state before it (None before the first one) and whether it
is the last one to its output (B, N, L, E) and the state after it (None after the last one)."""


def mlstm_chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the chunkwise form, for any S; see `ops.mlstm` for the arguments."""
    B, NH, S, DH = q.shape
    order = scan_order(*chunk_shape(S), reverse, q.device)
    heads = [x.reshape(B * NH, S, DH) for x in (q, k, v)]
    gates = gate_factors(i.reshape(B * NH, S), f.reshape(B * NH, S), order, eps)
    few = max(1, min(CPU_CHUNKS, DH // CHANNELS_PER_CHUNK))
    parts = run_segments(chunk_outputs, heads, gates, reverse, GPU_CHUNKS if on_gpu(q) else few)
    return torch.cat(parts, 1).view(B, NH, S, DH)


def mlstm_one_segment(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, eps: float, reverse: bool) -> Tensor:
    """Computes the chunkwise form without a loop over segments, for tracers and exporters: one graph for any S.

    The factors between the N chunks are an N x N matrix, so this form suits sequences of up to about 20,000 tokens.
    """
    B, NH, S, DH = q.shape
    N = S // CHUNK + 2  # never one chunk: exporters fix the size of an axis of one
    padding = (0, 0, 0, N * CHUNK - S)
    q, k, v = (F.pad(x, padding).reshape(B * NH, N, CHUNK, DH) for x in (q, k, v))
    order = scan_order(N, CHUNK, reverse, q.device)
    tokens, z_before, z_after = gate_factors(i.flatten(0, 1), f.flatten(0, 1), order, eps)
    h, _ = chunk_outputs(q, k, v, _of_segment(tokens, z_before, z_after, reverse), None, last=True)
    return h.reshape(B, NH, N * CHUNK, DH)[:, :, :S]


def run_segments(
    step: Step, tensors: Sequence[Tensor], gates: tuple[Tensor, Tensor, Tensor], reverse: bool, most: int
) -> list[Tensor]:
    """Applies `step` to consecutive segments, carrying the state; returns its outputs (B, tokens, ...) in tensor order.

    The last chunk is padded with tokens that do not change the state; their output is dropped.

    Args:
        step: see `Step`.
        tensors: (B, S, E) each.
        gates: the result of `gate_factors`.
        reverse: the recurrence runs from the last token to the first, and so do the segments.
        most: largest number of chunks in a segment.
    """
    tokens, z_before, z_after = gates
    N, L = tokens.shape[2:]
    chunks = segment_chunks(N, most)
    padding = N * L - tensors[0].shape[1]
    # Split once: the gradient of a slice is as long as the tensor that it was cut from.
    lengths = [n * L for n in chunks]
    lengths[-1] -= padding
    split = [list(x.split(lengths, 1)) for x in tensors]
    if padding:
        for pieces in split:
            pieces[-1] = F.pad(pieces[-1], (0, 0, 0, padding))
    of_tokens, of_states, of_writes = tokens.split(chunks, 2), z_before.split(chunks, 1), z_after.split(chunks, 1)
    outputs: list[Tensor] = []
    state = None
    for index in reversed(range(len(chunks))) if reverse else range(len(chunks)):
        segment = [pieces[index].unflatten(1, (-1, L)) for pieces in split]
        gate = _of_segment(of_tokens[index], of_states[index], of_writes[index], reverse)
        output, state = step(*segment, gate, state, len(outputs) == len(chunks) - 1)
        outputs.append(output.flatten(1, 2))
    outputs = outputs[::-1] if reverse else outputs
    if padding:
        outputs[-1] = outputs[-1][:, : lengths[-1]]
    return outputs


def on_gpu(x: Tensor) -> bool:
    """Returns whether few large kernels take less time for `x` than loops over segments that fit a cache."""
    return x.device.type not in ("cpu", "meta")


def chunk_shape(S: int) -> tuple[int, int]:
    """Returns the number of chunks N and their length L <= `CHUNK`; 0 <= N * L - S < N."""
    N = -(-S // CHUNK)
    return N, -(-S // N)


def scan_order(N: int, L: int, reverse: bool, device: torch.device) -> Tensor:
    """Returns the token at each position of the scan, (N, L); positions >= S are padding."""
    position = torch.arange(N * L, device=device)
    return (position.flip(0) if reverse else position).view(N, L)


def segment_chunks(N: int, most: int) -> list[int]:
    """Returns how many of N chunks each segment has, about equal, `most` or fewer."""
    count = -(-N // most)
    return [N * (index + 1) // count - N * index // count for index in range(count)]


def gate_factors(i: Tensor, f: Tensor, order: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns `tokens` of `GateFactors`, (8, H, N, L), and z before and after each chunk, (H, N), float64.

    Float64, because differences of long sums are taken; the gates are small beside q, k and v.

    Args:
        i, f: input and forget gate pre-activations, (H, S).
        order: see `scan_order`; a tensor, so that one compiled graph serves both directions and any padding.
        eps: see `ops.mlstm`.
    """
    dtype, S = i.dtype, i.shape[-1]
    token = order.flatten()
    # In the padding input gates are closed and forget gates open.
    i, f = (
        x.double().index_select(-1, token.clamp(max=S - 1)).masked_fill(token >= S, fill).unflatten(-1, order.shape)
        for x, fill in ((i, NEVER), (f, -NEVER))
    )
    A = F.logsigmoid(f).flatten(1).cumsum(-1).view_as(f)
    col = i - A
    z = _running_maximum(col.flatten(1)).view_as(f)
    m = A + z
    m_out = m.clamp(min=0).to(dtype).double()  # rounded once, so that all factors leave out the same number
    row = A - m_out
    z_after = z[..., -1]
    z_before = F.pad(z_after, (1, 0), value=NEVER)[:, :-1]
    read, write = row + z_before[..., None], col - z_after[..., None]

    exponents = torch.stack([row, col])
    high = exponents.to(dtype)
    factors = torch.stack([read, write, -m_out, m - m_out]).exp()
    factors = torch.cat([factors[:3], eps * factors[3:]])
    tokens = torch.cat([high, (exponents - high).to(dtype), factors.to(dtype)])
    # Undo the scan order; a reversal is its own inverse.
    chunk = order[:, 0] // order.shape[1]
    tokens = tokens.flatten(2).index_select(-1, token).view_as(tokens)
    return tokens, z_before.index_select(-1, chunk), z_after.index_select(-1, chunk)


def _running_maximum(x: Tensor) -> Tensor:
    """Returns the maximum up to each position of the last axis.

    Exporters and vmap know no `cummax`; for them, steps of 1, 2, 4, ... positions reach back over 2^20 positions.
    """
    if not traced():
        return x.cummax(-1).values
    for exponent in range(20):
        earlier = F.pad(x, (2**exponent, 0), value=NEVER)[..., : x.shape[-1]]
        x = torch.maximum(x, earlier)
    return x


def _of_segment(tokens: Tensor, z_before: Tensor, z_after: Tensor, reverse: bool) -> GateFactors:
    """Returns the gates of a segment from those of its tokens, (8, H, N, L), and its chunks, (H, N)."""
    N, L = tokens.shape[-2:]
    first, last = (-1, 0) if reverse else (0, -1)
    # a tracer would fix which of the two is larger
    hidden = tokens.new_full((N + L if traced() else max(N, L) + 1,) * 2, -torch.inf)
    contained = hidden[: N + 1, : N + 1].triu(1)
    causal = hidden[:L, :L].triu(1)
    if reverse:
        contained = hidden[: N + 1, : N + 1].tril(1)
        contained = torch.cat([torch.zeros_like(contained[:, :1]), contained[:, 1:]], 1)
        contained = torch.cat([contained[:-1], torch.zeros_like(contained[:1])])
        causal = causal.mT.contiguous()
    return GateFactors(
        tokens.contiguous(),
        torch.cat([z_before, z_after[:, last, None]], 1),
        torch.cat([z_before[:, first, None], z_after], 1),
        contained,
        causal,
    )


def chunk_outputs(
    q: Tensor, k: Tensor, v: Tensor, gates: GateFactors, state: State | None, last: bool
) -> tuple[Tensor, State | None]:
    """Computes the hidden states of a segment, (H, N, L, DH), and the state after it.

    Args:
        q, k, v: (H, N, L, DH); in half precision the products are in half precision too, the sums in float32.
        gates: see `GateFactors`; their dtype is that of the result.
        state, last: see `Step`.
    """
    H, N, L, DH = q.shape
    row, col, row_low, col_low, read, write, floor, eps = gates.tokens
    q, k, v = (x.reshape(H * N, L, DH) for x in (q, k, v))
    exponent = (row[..., :, None] + col[..., None, :]) + (row_low[..., :, None] + col_low[..., None, :])
    w = (q @ k.mT).view(H, N, L, L) * (torch.exp(exponent + gates.causal) * DH**-0.5)
    del exponent
    numerator, dot = (w.view(H * N, L, L).to(v.dtype) @ v).view(H, N, L, DH), w.sum(-1)
    if state is not None or N > 1 or not last:
        C, n, state = _states(k, v, write, gates, state, last)
        numerator = numerator + read[..., None] * (q @ C.to(q.dtype)).view(H, N, L, DH)
        dot = dot + read * (q @ n.to(q.dtype)).view(H, N, L)
    return numerator * (torch.maximum(dot.abs(), floor) + eps).reciprocal()[..., None], state


def _states(
    k: Tensor, v: Tensor, write: Tensor, gates: GateFactors, state: State | None, last: bool
) -> tuple[Tensor, Tensor, State | None]:
    """Computes C (H * N, DH, DH) and n (H * N, DH, 1) before each chunk, and the state after the segment.

    Args:
        k, v: (H * N, L, DH).
        write: (H, N, L).
        gates, state, last: see `chunk_outputs`.
    """
    H, N, L = write.shape
    DH = k.shape[-1]
    k_write = k * (write * DH**-0.5).view(H * N, L, 1)
    C_write = (k_write.to(v.dtype).mT @ v).view(H, N, DH * DH).to(write.dtype)
    n_write = k_write.sum(1).view(H, N, DH)
    exponent = gates.peak_of_writes[:, None, :] - gates.peak_of_states[:, :, None]
    factors = torch.exp(exponent + gates.contained).to(write.dtype)

    def sums(rows: slice) -> list[Tensor]:
        found = [factors[:, rows, 1:] @ writes for writes in (C_write, n_write)]
        if state is None:
            return found
        return [x + factors[:, rows, :1] * old.reshape(H, 1, -1) for x, old in zip(found, state, strict=True)]

    C, n = sums(slice(0, N))
    after = None
    if not last:
        C_after, n_after = sums(slice(N, N + 1))
        after = C_after.view(H, DH, DH), n_after.view(H, DH)
    return C.view(H * N, DH, DH), n.view(H * N, DH, 1), after
