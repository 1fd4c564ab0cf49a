"""Tests properties for any size, gates and dtype, tried on drawn examples; the draws are fixed."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vil_dense.backbones import VisionLSTM
from vil_dense.ops import mlstm

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
FEWER = settings(EXAMPLES, max_examples=12)


def inputs(S: int, DH: int, scale: float, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Draws q, k, v (2, 2, S, DH) and gates (2, 2, S) of deviation `scale`, cut at 1e4."""
    draw = torch.Generator().manual_seed(seed)
    tokens = [torch.randn(2, 2, S, DH, generator=draw, dtype=torch.float64) for _ in range(3)]
    gates = [(scale * torch.randn(2, 2, S, generator=draw, dtype=torch.float64)).clamp(-1e4, 1e4) for _ in range(2)]
    return [x.to(dtype).requires_grad_() for x in tokens + gates]


@EXAMPLES
@given(
    S=st.integers(1, 300), DH=st.sampled_from([1, 3, 8, 24]), scale=st.sampled_from([0.0, 1.0, 30.0, 3e3]),
    reverse=st.booleans(), seed=st.integers(0, 99), backend=st.sampled_from(["chunkwise", "parallel"]),
)  # fmt: skip
def test_mlstm_is_the_recurrence(S: int, DH: int, scale: float, reverse: bool, seed: int, backend: str):
    results = []
    for name in ("recurrent", backend):
        given_inputs = inputs(S, DH, scale, seed, torch.float64)
        h = mlstm(*given_inputs, reverse=reverse, backend=name)
        h.square().sum().backward()
        results.append((h, *(x.grad for x in given_inputs)))
    for x in results[1]:
        assert x.isfinite().all()
    for found, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * max(1.0, expected.abs().max().item()))


@EXAMPLES
@given(
    S=st.integers(1, 300), scale=st.sampled_from([1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    reverse=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_mlstm_in_fewer_bits(S: int, scale: float, dtype: torch.dtype, reverse: bool, seed: int):
    """Tests that values are finite for every gate, and right."""
    given_inputs = inputs(S, 8, scale, seed, dtype)
    h = mlstm(*given_inputs, reverse=reverse, backend="chunkwise")
    h.square().sum().backward()
    assert h.dtype == torch.float32 and all(x.grad.isfinite().all() for x in given_inputs)
    if scale == 1:  # sums of larger gates have fewer digits than their exponentials need
        exact = mlstm(*(x.detach().double() for x in given_inputs), reverse=reverse, backend="recurrent")
        torch.testing.assert_close(h.double(), exact, rtol=0, atol=1e-4 * exact.abs().max().item())


@FEWER
@given(
    size=st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 12)] * 3)),
    patch=st.sampled_from([2, 4, 5]), conv=st.sampled_from(["causal", "grid"]),
    direction=st.sampled_from(["bi-alternating", "quad-alternating", "bi"]),
)  # fmt: skip
def test_a_network_takes_any_size(size: tuple[int, ...], patch: int, conv: str, direction: str):
    found = []
    for backend in ("chunkwise", "recurrent"):
        torch.manual_seed(0)
        network = VisionLSTM(
            dim=8, depth=4, in_channels=2, patch_size=patch, grid=(3,) * len(size), conv=conv, direction=direction,
            backend=backend,
        ).double().eval()  # fmt: skip
        found.append(network(torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))))
    assert found[0].shape == (2, *(-(-length // patch) for length in size), 8)
    torch.testing.assert_close(*found)
