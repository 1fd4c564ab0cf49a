"""Runs the mLSTM alone: our backends, NX-AI's kernels, the floor. In half precision q, k, v are rounded, gates not."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contestants.case import (
    NUM_HEADS,
    TOLERANCES,
    Case,
    Check,
    Contestant,
    LeftOut,
    deviation,
    drop_gradients,
    refuse_missing_triton,
    refuse_quadratic,
    refuse_uncompiled,
)
from vil_dense.ops import mlstm
from vil_dense.ops.chunkwise import CHANNELS_PER_CHUNK, CHUNK, CPU_CHUNKS, chunk_shape, segment_chunks
from vil_dense.ops.linear import linear

LONGEST_RECURRENCE = 4096  # tokens; a loop of Python over them
CHECK_TOKENS = 600  # more than a segment, and no whole chunks


def inputs_of(case: Case) -> tuple[Tensor, ...]:
    """Draws q, k, v (B, NH, S, DH), and i, f (B, NH, S) in float32; f remembers, as in trained networks."""
    B, NH, S, DH = case.batch, NUM_HEADS, case.tokens, case.head_dim
    q, k, v = case.random(3, B, NH, S, DH, dtype=case.dtype)
    i, f = case.random(2, B, NH, S)
    return tuple(x.contiguous().requires_grad_(case.backward) for x in (q, k, v, i, f + 4))


def run_pass(case: Case, function: Callable, inputs: tuple[Tensor, ...], cotangent: Tensor, norm: bool) -> Tensor:
    """Computes h, and with backward the gradients of all inputs; `norm` puts the block's head norm behind."""
    with torch.set_grad_enabled(case.backward):
        h = function(*inputs)
        h = F.layer_norm(h, h.shape[-1:], eps=1e-6) if norm else h
    if case.backward:
        h.backward(cotangent.to(h.dtype))
    return h.detach()


def check_against(case: Case, function: Callable, backend: str, norm: bool, reverse: bool = False) -> Check:
    """Compares with `backend` in float64 on the same, rounded inputs."""

    def outcome(function: Callable, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        found = {"output": run_pass(case, function, inputs, case.random(*inputs[0].shape), norm)}
        return found | {name: x.grad for name, x in zip("qkvif", inputs, strict=True) if x.grad is not None}

    reference = partial(mlstm, backend=backend, reverse=reverse)

    def measure() -> float:
        inputs = inputs_of(case)
        exact = tuple(x.detach().double().requires_grad_(case.backward) for x in inputs)
        return deviation(outcome(function, inputs), outcome(reference, exact))

    return Check(f"{backend} in float64, {case.tokens} tokens{', reversed' * reverse}", measure, TOLERANCES[case.dtype])


def short_form(case: Case) -> Case:
    """Returns the case at a length that the recurrence is run at."""
    return replace(case, size=min(case.tokens, CHECK_TOKENS), batch=min(case.batch, 2))


def operator(case: Case, function: Callable, family: str, norm: bool = False) -> Contestant:
    """Makes a contestant; checked by the recurrence at a short length, beyond that by the chunkwise form, too."""
    checks = [check_against(short_form(case), function, "recurrent", norm)]
    if case.tokens > CHECK_TOKENS:
        checks.append(check_against(replace(case, batch=1), function, "chunkwise", norm))
    inputs = inputs_of(case)
    cotangent = case.random(*inputs[0].shape)

    def step() -> None:
        run_pass(case, function, inputs, cotangent, False)
        drop_gradients(inputs)

    return Contestant(family, step, tuple(checks))


def own_operator(case: Case, backend: str, compiled: bool = False) -> Contestant:
    """Builds the contestant of one of our backends."""
    refuse_missing_triton(case, backend)
    if backend == "parallel":
        refuse_quadratic(case, 6 if case.backward else 4)
    if backend == "recurrent" and case.tokens > LONGEST_RECURRENCE:
        raise LeftOut(f"its loop over tokens is run up to {LONGEST_RECURRENCE} tokens")
    function: Callable = partial(mlstm, backend=backend)
    if compiled:
        refuse_uncompiled(case)
        function = torch.compile(function, dynamic=False)
    contestant = operator(case, function, f"ours-{backend}")
    back = partial(mlstm, backend=backend, reverse=True)
    reverse = check_against(short_form(case), back, "recurrent", norm=False, reverse=True)
    return contestant._replace(checks=(*contestant.checks, reverse))


def mlstm_kernels(case: Case) -> Contestant:
    """Runs NX-AI's Triton kernels. They need DH in multiples of 64 and S in whole chunks: padding is part of the time.

    Their gradient is right only behind a norm of each head, so it is compared behind one.
    """
    if case.device.type == "cpu":
        raise LeftOut("its Triton kernels need a GPU")
    try:
        kernel = import_module("mlstm_kernels.torch.chunkwise.triton_xl_chunk").mlstm_chunkwise__xl_chunk
    except (ImportError, AttributeError) as error:
        raise LeftOut(f"it cannot be imported ({error})") from error

    def function(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
        S, DH = q.shape[2:]
        wide, long = -(-DH // 64) * 64, -(-S // CHUNK) * CHUNK
        q = q * math.sqrt(wide / DH)  # the kernel divides by the root of the padded width
        q, k, v = (F.pad(x, (0, wide - DH, 0, long - S)) for x in (q, k, v))
        i, f = (F.pad(x, (0, long - S)) for x in (i, f))
        h = kernel(q, k, v, i, f, eps=1e-6, chunk_size=CHUNK, autocast_kernel_dtype=q.dtype)
        return h[:, :, :S, :DH]

    return operator(case, function, "mlstm_kernels", norm=case.backward)


Shapes = list[tuple[tuple[int, ...], tuple[int, ...]]]


def chunk_products(case: Case) -> Shapes:
    """Returns both factors of the mLSTM's matrix products in chunks."""
    B, S, DH = case.batch * NUM_HEADS, case.tokens, case.head_dim
    N, L = chunk_shape(S)
    shapes: Shapes = [((B * N, L, DH), (B * N, DH, L)), ((B * N, L, L), (B * N, L, DH))]  # q k^T, W v
    if N > 1:  # one chunk needs no state
        shapes += [((B * N, DH, L), (B * N, L, DH)), ((B * N, L, DH), (B * N, DH, DH))]  # k^T v, q C
    return shapes


def state_products(case: Case) -> Shapes:
    """Returns both factors of the mLSTM's matrix products over the states of each segment."""
    B, DH, N = case.batch * NUM_HEADS, case.head_dim, chunk_shape(case.tokens)[0]
    few = max(1, min(CPU_CHUNKS, DH // CHANNELS_PER_CHUNK)) if case.mode == "op" else CPU_CHUNKS
    return [((B, length, length), (B, length, DH * DH)) for length in segment_chunks(N, few) if N > 1]


def projections(case: Case) -> Shapes:
    """Returns both factors of a block's other products: up, down, and gates, which read two inputs of E channels."""
    S, E, dim = case.batch * case.tokens, NUM_HEADS * case.head_dim, case.options["dim"]
    return [((S, dim), (dim, 2 * E)), ((S, E), (E, dim)), *2 * [((S, E), (E, 2 * NUM_HEADS))]]


def floor(case: Case) -> Contestant:
    """Runs the matrix products of our forward alone, with backward also theirs, once for each block; nothing is
    checked.

    The states are summed in float32 whatever the network's precision; on a GPU in TF32 beside half precision. The maps
    with weights are `ops.linear`, as in the network.
    """
    in_network = projections(case) if case.mode != "op" else []
    depth = case.options["depth"] if case.mode != "op" else 1
    products = []
    for shapes, dtype, multiply in (
        (chunk_products(case), case.dtype, torch.matmul),
        (state_products(case), torch.float32, torch.matmul),
        (in_network, case.dtype, lambda a, b: linear(a, b.mT)),
    ):
        for left, right in shapes:
            a, b = case.random(*left, dtype=dtype), case.random(*right, dtype=dtype)
            y = multiply(a, b)
            products.append((multiply, a, b))
            if case.backward:
                products += [(multiply, y, b.mT), (multiply, a.mT, y)]

    def step() -> None:
        for _ in range(depth):
            for multiply, a, b in products:
                multiply(a, b)

    return Contestant("floor", step)
