"""Every backend equals the recurrence, in values and in all five gradients, and stays finite."""

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor

from vil_dense.ops import BACKENDS, mlstm, resolve_backend

OTHERS = [name for name in BACKENDS if name != "recurrent"]


def uniform(low: float, high: float, S: int) -> Tensor:
    return torch.empty(2, 2, S, dtype=torch.float64).uniform_(low, high)


def ramp(first: float, last: float, S: int) -> Tensor:
    return torch.linspace(first, last, S, dtype=torch.float64).expand(2, 2, S).clone()


# name: input gates, forget gates
GATES = {
    "mild": lambda S: (uniform(-1, 1, S), uniform(2, 6, S)),
    "forgetful": lambda S: (uniform(-1, 1, S), uniform(-8, -2, S)),
    "loud": lambda S: (uniform(-40, 40, S), uniform(-20, 20, S)),
    "quiet": lambda S: (uniform(-105, -95, S), uniform(0, 4, S)),
    # the past outweighs the present by more than exp can hold, and the other way round
    "fading": lambda S: (ramp(600, -600, S), uniform(4, 5, S)),
    "rising": lambda S: (ramp(-600, 600, S), uniform(4, 5, S)),
    "tied": lambda S: (torch.zeros(2, 2, S, dtype=torch.float64), torch.full((2, 2, S), 400.0, dtype=torch.float64)),
}


def values_and_gradients(inputs: list[Tensor], cotangent: Tensor, backend: str) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    h = mlstm(*leaves, backend=backend)
    return [h.detach(), *torch.autograd.grad(h, leaves, cotangent)]


@pytest.mark.parametrize("S", [1, 7, 64, 65, 196, 262, 300])  # 262: two segments, each with a padded chunk
@pytest.mark.parametrize("DH", [16, 96])
@pytest.mark.parametrize("gates", GATES)
def test_backends_equal_the_recurrence(S: int, DH: int, gates: str) -> None:
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_whisper_is_not_silenced(backend: str) -> None:
    """Input gates at which e^{-m} exceeds float32 while h, about 1e-39, does not fall below it."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 5, 4, dtype=torch.float64)
    i, f = torch.full((1, 1, 5), -89.5, dtype=torch.float64), torch.full((1, 1, 5), 9.0, dtype=torch.float64)
    expected = mlstm(q, k, v, i, f, backend="recurrent")
    actual = mlstm(*(x.float() for x in (q, k, v, i, f)), backend=backend).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-2 * expected.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("f", [4, -3, -100, -1000, -9000])
def test_float32_is_accurate_however_much_is_forgotten(backend: str, f: float) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 300, 16, dtype=torch.float64)
    inputs = [q, k, v, uniform(-1, 1, 300), uniform(f - 1, f + 1, 300)]
    expected = mlstm(*inputs, backend="recurrent")
    actual = mlstm(*(x.float() for x in inputs), backend=backend).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * expected.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_finite_for_extreme_gates(backend: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    spans = [(-1e4, 1e4), (-1e4, -9e3), (9e3, 1e4)]
    for i_span in spans:
        for f_span in spans:
            q, k, v = torch.randn(3, 2, 2, 130, 16)
            inputs = [x.to(dtype) for x in (q, k, v, uniform(*i_span, 130), uniform(*f_span, 130))]
            for x in values_and_gradients(inputs, torch.randn(2, 2, 130, 16), backend):
                assert x.isfinite().all(), f"i in {i_span}, f in {f_span}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_float16_gradients_saturate(backend: str) -> None:
    """A normaliser of 0 with a loud input gate: the true gradient of q is about 1e6, beyond float16."""
    q, k, v = torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4)
    inputs = [x.half() for x in (q, k, v, torch.full((1, 1, 3), 9e3), torch.zeros(1, 1, 3))]
    gradient = values_and_gradients(inputs, torch.ones(1, 1, 3, 4), backend)[1]
    assert gradient.tolist() == torch.full_like(gradient, 65504).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_causal(backend: str) -> None:
    """What comes later has no say, across chunk borders too."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 140, 8, dtype=torch.float64)
    i, f = torch.randn(2, 1, 2, 140, dtype=torch.float64)
    whole = mlstm(q, k, v, i, f, backend=backend)
    start = mlstm(*(x[:, :, :70] for x in (q, k, v, i, f)), backend=backend)
    torch.testing.assert_close(whole[:, :, :70], start, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_output_is_float32_or_better(backend: str, dtype: torch.dtype) -> None:
    q, k, v = torch.randn(3, 1, 1, 5, 4).to(dtype)
    i, f = torch.randn(2, 1, 1, 5).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    plain = mlstm(q, k, v, i, f, backend=backend)
    assert plain.dtype == wide
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mlstm(q, k, v, i, f, backend=backend), plain), "autocast reached the inside"


@pytest.mark.parametrize("DH", [16, 96])
def test_chunkwise_memory_is_linear(DH: int) -> None:
    """Peak live bytes per token, forward alone and with backward, from 4k to 64k tokens."""
    per_token: dict[str, list[float]] = {"forward": [], "training": []}
    for S in (4096, 65536):
        q, k, v = (torch.randn(1, 1, S, DH, requires_grad=True) for _ in range(3))
        i, f = (torch.randn(1, 1, S, requires_grad=True) for _ in range(2))
        with LiveMemory() as training:
            mlstm(q, k, v, i, f, backend="chunkwise").sum().backward()
        with torch.no_grad(), LiveMemory() as forward:
            mlstm(q, k, v, i, f, backend="chunkwise")
        per_token["training"].append(training.peak / S)
        per_token["forward"].append(forward.peak / S)
    for mode, values in per_token.items():
        assert max(values) <= 1.15 * min(values), f"{mode}: bytes per token {values}"


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
    with pytest.raises(ValueError, match=r"unknown mLSTM backend 'quick'; known: auto, recurrent, parallel, chunkwise"):
        mlstm(x, x, x, gate, gate, backend="quick")
    with pytest.raises(ValueError, match=r"expects q, k, v \(B, NH, S, DH\).*got q \(1, 2, 3, 4\).*f \(1, 2\)"):
        mlstm(x, x, x, gate, gate[..., 0])
    empty = x[:, :, :0]
    with pytest.raises(ValueError, match="S >= 1"):
        mlstm(empty, empty, empty, gate[:, :, :0], gate[:, :, :0])
    assert resolve_backend("auto") == "chunkwise"
