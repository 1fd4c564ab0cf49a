"""Provides the matrix LSTM and the table of its backends."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from vil_dense.errors import refuse_other
from vil_dense.ops.chunkwise import mlstm_chunkwise, mlstm_one_segment
from vil_dense.ops.gpu.mlstm import mlstm_triton
from vil_dense.ops.operators import no_autocast, register, traced
from vil_dense.ops.parallel import mlstm_parallel
from vil_dense.ops.recurrent import mlstm_recurrent

Backend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float, bool], Tensor]


BACKENDS: dict[str, Backend] = {
    "recurrent": mlstm_recurrent,
    "parallel": mlstm_parallel,
    "chunkwise": mlstm_chunkwise,
    "triton": mlstm_triton,
}

OPERATORS = {"chunkwise", "triton"}
"""Backends that run as one operator of torch, `torch.ops.vil_dense.mlstm`; tracers see plain operators instead."""

EPS = 1e-6
"""Added to the normaliser in all published models."""


def resolve_backend(backend: str) -> str:
    """Returns the key of `BACKENDS` that `backend` stands for; `auto` is `chunkwise`, whatever the length and the
    device.

    Raises:
        ValueError: the name is not known.
    """
    refuse_other(backend, ("auto", *BACKENDS), "mLSTM backend")
    return "chunkwise" if backend == "auto" else backend


def usable_backend(backend: str) -> str:
    """Returns `resolve_backend` of a name, for a network that is to use it later.

    Raises:
        ValueError: the name is not known.
        ImportError: the backend is `triton`, and triton is not installed.
    """
    name = resolve_backend(backend)
    if name == "triton" and find_spec("triton") is None:
        raise ImportError("the mLSTM backend 'triton' needs the package triton: pip install triton")
    return name


def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    reverse: bool = False,
    backend: str = "auto",
    eps: float = EPS,
) -> Tensor:
    """Computes the hidden states of a matrix LSTM over a sequence (xLSTM, arXiv 2405.04517).

    C, n and h are those of equations 19 to 21, without the output gate; the stabiliser m is that of equation 15.
    h_t = C_t^T q_t / (max(|n_t . q_t|, e^{-m_t}) + eps), with C and n scaled by e^{-m}, an exponential input gate and a
    sigmoid forget gate; `recurrent.py` has the recursions of C, n and m. Keys are divided by sqrt(DH).
    The gradient is the full one, through the normaliser and the stabiliser too. Values and gradients are finite for
    gate pre-activations within +-1e4. Autocast is switched off inside.

    Args:
        q, k, v: queries, keys, values, (B, NH, S, DH), floating point, S >= 1.
        i, f: input and forget gate pre-activations, (B, NH, S).
        reverse: the scan runs from the last token to the first, as if inputs and h were flipped along S.
        backend: a key of `BACKENDS`, or `auto` (see `resolve_backend`).
        eps: added to the normaliser.

    Returns:
        h, (B, NH, S, DH): float64 where `q` is float64, else float32, also for half-precision inputs.

    Raises:
        ValueError: unknown backend, empty sequence, shapes that do not agree, or, of `triton`, float64 or no GPU.
        ImportError: the backend is `triton` and triton is not installed.
    """
    name = resolve_backend(backend)
    if q.ndim != 4 or not (q.shape == k.shape == v.shape) or not (i.shape == f.shape == q.shape[:3]) or q.shape[2] < 1:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip("qkvif", (q, k, v, i, f), strict=True))
        raise ValueError(f"mlstm expects q, k, v (B, NH, S, DH) and i, f (B, NH, S) with S >= 1; got {shapes}")
    # Eager code calls triton as it is: it saves what its backward pass reads, which an operator computes again.
    if name in OPERATORS and not traced() and (name != "triton" or torch.compiler.is_compiling()):
        return mlstm_operator(q, k, v, i, f, reverse, name, eps)
    with no_autocast(q):
        return _compute(q, k, v, i, f, reverse, name, eps)


def _compute(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, reverse: bool, backend: str, eps: float) -> Tensor:
    dtype = _output_dtype(q)
    i, f = widen(i, dtype), widen(f, dtype)
    if backend != "triton" or not {q.dtype, k.dtype, v.dtype} <= {torch.bfloat16, torch.float16}:  # which it reads
        q, k, v = (widen(x, dtype) for x in (q, k, v))
    function = mlstm_one_segment if backend == "chunkwise" and traced() else BACKENDS[backend]
    return function(q, k, v, i, f, eps, reverse)


def _output_dtype(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


mlstm_operator = register("mlstm", _compute, lambda q, *_: q.new_empty(q.shape, dtype=_output_dtype(q)))
"""The backends of `OPERATORS` as one node for torch.compile; nothing but the inputs is saved for its backward pass."""


def widen(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns `x` in `dtype`; its gradient saturates in float16.

    Where a normaliser is near 0 a true gradient can exceed float16; clamped, it is not infinite.
    """
    wide = x.to(dtype)
    if x.dtype == torch.float16 and wide.requires_grad:
        largest = torch.finfo(torch.float16).max
        wide.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return wide
