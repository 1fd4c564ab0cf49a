"""Tests that the Triton kernels in float32 equal the recurrence in float64, in values and in all five gradients.

TRITON_INTERPRET=1 runs them on the CPU, where each program takes as long whatever the size of its blocks.
"""

import math
from functools import partial

import pytest
import torch
from mlstm_cases import GATES, TRITON, assert_linear_memory, device_of, hidden_states, values_and_gradients
from refusals import raises_one_line
from torch import Tensor

from vil_dense.ops import BACKENDS, mlstm
from vil_dense.ops.gpu import scan

pytestmark = TRITON
DEVICE = device_of("triton")
LAYOUTS = (((0, 2, 1), (0, 2, 1)), ((1, 0, 2), (1, 0, 2)))
"""Permutations of the axes of gates in memory, each with its inverse; the second is that of networks."""
SMALLEST = 2.0**-149
"""The least positive number in float32."""


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch) -> None:
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, **options: empty(*sizes, **options).fill_(math.nan))


@pytest.fixture(params=[64, 256])
def chunk(request, monkeypatch) -> int:
    """Sets chunks of 64 tokens, between which states lie in memory, or of 256: sequences of one chunk."""
    for name in ("WHOLE", "CHUNK", "WIDE_CHUNK"):
        monkeypatch.setattr(f"vil_dense.ops.gpu.plan.{name}", request.param)
    return request.param


def example(B: int, NH: int, S: int, DH: int, gates: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Returns q, k, v, i, f and a cotangent."""
    torch.manual_seed(S + DH)
    i, f = (x[:B, :NH].float() for x in GATES[gates](S))
    q, k, v, cotangent = torch.randn(4, B, NH, S, DH)
    return [q.to(dtype), k.to(dtype), v.to(dtype), i, f, cotangent]


def assert_equals_the_recurrence(
    tensors: list[Tensor], reverse: bool = False, bound: float = 1e-4, bound_of_gradients: float | None = None
) -> None:
    """Asserts equality within `bound` of the largest value.

    A gradient that cancels is held to the rounding of the others and of the recurrence in float32, and below the normal
    numbers of float32 all are held to 128 of its smallest ones.
    """
    *inputs, cotangent = tensors
    wide = [x.double() for x in inputs]
    expected = values_and_gradients(wide, cotangent.double(), "recurrent", reverse=reverse)
    rounded = values_and_gradients([x.float() for x in inputs], cotangent, "recurrent", reverse=reverse)
    actual = values_and_gradients(inputs, cotangent, "triton", reverse=reverse)
    largest = max(x.abs().max().item() for x in expected)
    for name, ours, reference, rough in zip(["h", *"qkvif"], actual, expected, rounded, strict=True):
        scale = max(reference.abs().max().item(), 3e-3 * largest)
        relative = bound if name == "h" else bound_of_gradients or bound
        rounding = 0 if name == "h" else (rough - reference).abs().max().item()
        torch.testing.assert_close(
            ours.double(),
            reference,
            rtol=0,
            atol=relative * scale + 2 * rounding + 128 * SMALLEST,
            msg=lambda text, what=name: f"{what}: {text}",
        )


@pytest.mark.parametrize("S", [1, 7, 64, 65, 131])
@pytest.mark.parametrize("gates", GATES)
def test_equals_the_recurrence(S: int, gates: str, chunk: int) -> None:
    if S <= 64 and chunk == 64:
        pytest.skip("one chunk either way")
    assert_equals_the_recurrence(example(1 if S > 65 else 2, 2, S, 16, gates))


@pytest.mark.parametrize("gates", ["mild", "forgetful", "fading", "rising"])
def test_equals_the_recurrence_in_several_blocks_of_channels(gates: str, chunk: int) -> None:
    assert_equals_the_recurrence(example(1, 1, 70, 96, gates))


@pytest.mark.parametrize(("S", "DH"), [(9, 1), (9, 5), (70, 40)])
def test_equals_the_recurrence_where_blocks_are_not_full(S: int, DH: int) -> None:
    assert_equals_the_recurrence(example(1, 2, S, DH, "mild"))


@pytest.mark.parametrize(("S", "DH"), [(65, 192), (9, 384), (9, 512)])
def test_equals_the_recurrence_for_wide_heads(S: int, DH: int) -> None:
    assert_equals_the_recurrence(example(1, 1, S, DH, "mild"))


@pytest.mark.parametrize("S", [1, 65, 131])
@pytest.mark.parametrize("gates", ["mild", "fading", "rising"])
def test_reversed(S: int, gates: str, chunk: int) -> None:
    if S <= 64 and chunk == 64:
        pytest.skip("one chunk either way")
    assert_equals_the_recurrence(example(1, 2, S, 16, gates), reverse=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("S", [64, 70])
@pytest.mark.parametrize("alike", [True, False])
def test_takes_tensors_as_they_lie(alike: bool, S: int, reverse: bool) -> None:
    """Tests views of (B, S, NH, DH), gates in any order of their axes; and q, k and v of different strides."""
    q, k, v, i, f, cotangent = example(2, 2, S, 16, "mild")
    run = partial(values_and_gradients, backend="triton", reverse=reverse)
    expected = run([q, k, v, i, f], cotangent)
    q, k, v, cotangent = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v, cotangent))
    if not alike:
        k = k.mT.contiguous().mT
    gates = [(x.permute(*axes).contiguous().permute(*back)) for x in (i, f) for axes, back in LAYOUTS]
    for i, f in (gates[::2], gates[1::2]):
        assert not any(x.is_contiguous() for x in (q, k, v, i, f, cotangent))
        for ours, reference in zip(run([q, k, v, i, f], cotangent), expected, strict=True):
            assert torch.equal(ours, reference)


# Operands of products are rounded to the dtype of the inputs, bfloat16 towards 0 in the interpreter. For h the weights
# are: its error was 0.4 to 0.8 `rounding`. For gradients weights, their gradients and the result are: 0.7 to 1.4. So
# half of either bound would not do.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-11)])
@pytest.mark.parametrize(("S", "DH"), [(65, 16), (70, 96)])
def test_half_precision_is_read_as_it_is(S: int, DH: int, dtype: torch.dtype, rounding: float, monkeypatch) -> None:
    tensors = example(1, 2, S, DH, "mild", dtype)
    assert_equals_the_recurrence(tensors, bound=rounding, bound_of_gradients=2 * rounding)

    taken = []
    monkeypatch.setitem(BACKENDS, "triton", lambda *inputs: taken.extend(inputs[:5]))
    mlstm(*tensors[:5], backend="triton")
    assert [x.dtype for x in taken] == [dtype] * 3 + [torch.float32] * 2


def test_half_precision_beside_float32() -> None:
    q, *others = example(1, 1, 9, 16, "mild")
    assert_equals_the_recurrence([q.half(), *others], bound=1e-5, bound_of_gradients=1e-3)


def test_float16_gradients_that_are_no_numbers_stay_so() -> None:
    *inputs, cotangent = example(1, 1, 5, 4, "mild", torch.float16)
    cotangent[..., 2, 0] = math.nan
    assert values_and_gradients(inputs, cotangent, "triton")[1][..., 2, :].isnan().all()


def test_memory_is_linear() -> None:
    assert_linear_memory([example(1, 1, S, 16, "mild")[:5] for S in (256, 1024)], "triton")


@pytest.mark.parametrize("compiled", [False, True])
def test_forward_pass_runs_once(compiled: bool, monkeypatch) -> None:
    """Tests that eager training saves what the backward pass reads; within a graph the operator computes it again."""
    ran, launch = [], scan.launch
    monkeypatch.setattr(
        scan, "launch", lambda kernel, *args, **options: [ran.append(kernel), launch(kernel, *args, **options)]
    )
    inputs = [x.to(DEVICE).requires_grad_() for x in example(1, 1, 5, 4, "mild")[:5]]
    run = partial(mlstm, backend="triton")
    run = torch.compile(run, backend="aot_eager", fullgraph=True) if compiled else run
    run(*inputs).sum().backward()
    assert ran.count("hidden_states") == 1 + compiled


def test_refuses_in_words(monkeypatch) -> None:
    *inputs, _ = example(1, 1, 3, 4, "mild")
    with raises_one_line(ValueError, "float64"):
        hidden_states([x.double() for x in inputs], "triton")
    monkeypatch.setattr("vil_dense.ops.gpu.launches.INTERPRETED", False)
    with raises_one_line(ValueError, "GPU", "TRITON_INTERPRET"):
        mlstm(*inputs, backend="triton")
