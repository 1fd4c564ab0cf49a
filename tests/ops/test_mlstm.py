"""Tests that every backend equals the recurrence, in values and in all five gradients, and stays finite."""

import sys
from collections.abc import Iterator

import pytest
import torch
from live_memory import LiveMemory
from mlstm_cases import (
    BACKENDS_FLOAT64,
    EVERY_BACKEND,
    GATES,
    assert_linear_memory,
    device_of,
    hidden_states,
    uniform,
    values_and_gradients,
)
from refusals import raises_one_line

from vil_dense.ops import chunkwise, mlstm, resolve_backend

OTHERS = [name for name in BACKENDS_FLOAT64 if name != "recurrent"]


# 262: five chunks of 53 with three tokens missing. Channels for a chunk in a segment: one segment for all, and several.
LENGTHS, HEAD_WIDTHS, CHANNELS = (1, 64, 65, 196, 262), (16, 96), (1, 48)


def pairwise() -> Iterator[tuple[int, int, int, str]]:
    """Yields S, DH, channels and gates such that any two values of different columns meet in a case;
    `test_properties.py` draws further lengths and widths."""
    for row, S in enumerate(LENGTHS):
        for column, gates in enumerate(GATES):
            yield S, HEAD_WIDTHS[(row + column) % 2], CHANNELS[(row + column // 2) % 2], gates


@pytest.mark.parametrize(("S", "DH", "channels", "gates"), list(pairwise()))
def test_backends_equal_the_recurrence(S: int, DH: int, channels: int, gates: str, monkeypatch) -> None:
    monkeypatch.setattr(chunkwise, "CHANNELS_PER_CHUNK", channels)
    torch.manual_seed(S + DH)
    q, k, v, cotangent = torch.randn(4, 2, 2, S, DH, dtype=torch.float64)
    inputs = [q, k, v, *GATES[gates](S)]
    expected = values_and_gradients(inputs, cotangent, "recurrent")
    # Where a maximum is attained twice, its gradient may be split differently.
    bound = 1e-6 if S == 1 or gates == "tied" else 1e-9
    largest = max(x.abs().max().item() for x in expected)
    for backend in OTHERS:
        actual = values_and_gradients(inputs, cotangent, backend)
        for name, ours, reference in zip(["h", *"qkvif"], actual, expected, strict=True):
            # A gradient that is zero but for rounding (a gate without a say) is held to the rounding of the others.
            scale = max(reference.abs().max().item(), 1e-10 * largest)
            torch.testing.assert_close(
                ours, reference, rtol=0, atol=bound * scale, msg=lambda text, what=(backend, name): f"{what}: {text}"
            )


@pytest.mark.parametrize(
    ("S", "channels", "gates"),
    [(1, 48, "mild"), (65, 1, "mild"), (65, 48, "fading"), (262, 1, "rising"), (262, 48, "mild"), (262, 1, "fading")],
)
@pytest.mark.parametrize("backend", BACKENDS_FLOAT64)
def test_a_reversed_scan_is_a_scan_of_what_is_turned_round(
    S: int, channels: int, gates: str, backend: str, monkeypatch
) -> None:
    monkeypatch.setattr(chunkwise, "CHANNELS_PER_CHUNK", channels)
    torch.manual_seed(S)
    q, k, v, cotangent = torch.randn(4, 2, 2, S, 16, dtype=torch.float64)
    inputs = [q, k, v, *GATES[gates](S)]
    turned = values_and_gradients([x.flip(2) for x in inputs], cotangent.flip(2), backend)
    for ours, reference in zip(values_and_gradients(inputs, cotangent, backend, reverse=True), turned, strict=True):
        scale = max(1e-10, reference.abs().max().item())
        torch.testing.assert_close(ours, reference.flip(2), rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_whisper_is_not_silenced(backend: str) -> None:
    """Tests input gates at which e^{-m} exceeds float32 while h, about 1e-39, does not fall below it."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 5, 4, dtype=torch.float64)
    i, f = torch.full((1, 1, 5), -89.5, dtype=torch.float64), torch.full((1, 1, 5), 9.0, dtype=torch.float64)
    expected = hidden_states([q, k, v, i, f], "recurrent")
    actual = hidden_states([x.float() for x in (q, k, v, i, f)], backend).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-2 * expected.abs().max().item())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("f", [4, -100, -9000])
def test_float32_is_accurate_however_much_is_forgotten(backend: str, f: float) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 300, 16, dtype=torch.float64)
    inputs = [q, k, v, uniform(-1, 1, 300), uniform(f - 1, f + 1, 300)]
    expected = hidden_states(inputs, "recurrent")
    actual = hidden_states([x.float() for x in inputs], backend).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * expected.abs().max().item())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_finite_for_extreme_gates(backend: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    spans = [(-1e4, 1e4), (-1e4, -9e3), (9e3, 1e4)]
    for i_span in spans:
        for f_span in spans:
            q, k, v, cotangent = torch.randn(4, 2, 2, 70, 16)  # two chunks
            tensors = [x.to(dtype) for x in (q, k, v, uniform(*i_span, 70), uniform(*f_span, 70))]
            if backend == "triton":  # a second for each head where it is interpreted
                *tensors, cotangent = (x[:1, :1] for x in (*tensors, cotangent))
            for x in values_and_gradients(tensors, cotangent, backend):
                assert x.isfinite().all(), f"i in {i_span}, f in {f_span}"


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_float16_gradients_saturate(backend: str) -> None:
    """Tests a normaliser of 0 with a loud input gate: the true gradient of q is about 1e6, beyond float16."""
    q, k, v = torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4)
    inputs = [x.half() for x in (q, k, v, torch.full((1, 1, 3), 9e3), torch.zeros(1, 1, 3))]
    gradient = values_and_gradients(inputs, torch.ones(1, 1, 3, 4), backend)[1]
    assert gradient.tolist() == torch.full_like(gradient, 65504).tolist()


@pytest.mark.parametrize("backend", BACKENDS_FLOAT64)
def test_causal(backend: str) -> None:
    """Tests that later tokens have no influence, across chunk borders too."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 140, 8, dtype=torch.float64)
    i, f = torch.randn(2, 1, 2, 140, dtype=torch.float64)
    whole = mlstm(q, k, v, i, f, backend=backend)
    start = mlstm(*(x[:, :, :70] for x in (q, k, v, i, f)), backend=backend)
    torch.testing.assert_close(whole[:, :, :70], start, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_output_is_float32_or_better(backend: str, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and backend not in BACKENDS_FLOAT64:
        pytest.skip(f"{backend} refuses float64")
    inputs = [*torch.randn(3, 1, 1, 5, 4).to(dtype), *torch.randn(2, 1, 1, 5).to(dtype)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    plain = hidden_states(inputs, backend)
    assert plain.dtype == wide
    with torch.autocast(device_of(backend), dtype=torch.bfloat16):
        assert torch.equal(hidden_states(inputs, backend), plain), "autocast reached the inside"


@pytest.mark.parametrize("DH", [16, 96])
def test_chunkwise_memory_is_linear(DH: int) -> None:
    """Tests peak live bytes per token, forward alone and with backward, from 2k to 8k tokens."""
    assert_linear_memory(
        [[*torch.randn(3, 1, 1, S, DH).unbind(), *torch.randn(2, 1, 1, S).unbind()] for S in (2048, 8192)], "chunkwise"
    )


def test_the_count_of_memory_notices_a_square() -> None:
    peaks = []
    for S in (256, 1024):
        x = torch.randn(1, 1, S, 4)
        with torch.no_grad(), LiveMemory() as memory:
            mlstm(x, x, x, x[..., 0], x[..., 0], backend="parallel")
        peaks.append(memory.peak / S)
    assert peaks[1] > 3 * peaks[0]


def test_refuses_in_words() -> None:
    x, gate = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3)
    with raises_one_line(ValueError, "'quick'", "auto, recurrent, parallel, chunkwise, triton"):
        mlstm(x, x, x, gate, gate, backend="quick")
    with raises_one_line(ValueError, "(1, 2, 3, 4)", "(1, 2)"):
        mlstm(x, x, x, gate, gate[..., 0])
    empty = x[:, :, :0]
    with raises_one_line(ValueError, "S >= 1"):
        mlstm(empty, empty, empty, gate[:, :, :0], gate[:, :, :0])
    assert resolve_backend("auto") == "chunkwise"


def test_triton_is_optional_and_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("vil_dense.ops.gpu")]:
        monkeypatch.delitem(sys.modules, name)
    x, gate = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3)
    with raises_one_line(ImportError, "triton", "pip install"):
        mlstm(x, x, x, gate, gate, backend="triton")
