"""Tests torch.jit: tracing records plain operators; scripting is refused in a sentence."""

import io
from collections.abc import Callable

import pytest
import torch
from refusals import raises_one_line
from small_models import MODELS, assert_close, assert_same, build, gradients, picture
from torch import Tensor, nn

from vil_dense.backbones import HierViL

# Deprecated by torch, yet what many runtimes still read. What a trace fixes is compared below, by its values.
pytestmark = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:`torch.jit.*` is deprecated:DeprecationWarning"
)
OTHER_GRIDS = {2: [(3, 4), (9, 9), (1, 7)], 3: [(2, 2, 3), (3, 5, 6)]}
"""Fewer and more tokens than in the trace, one chunk or several."""


def traced(model: nn.Module, x: Tensor) -> torch.jit.ScriptModule:
    return torch.jit.trace(model, x, check_trace=False)


def operators(trace: torch.jit.ScriptModule) -> set[str]:
    return {node.kind().split("::")[0] for node in trace.inlined_graph.nodes()}


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_without_gradients(name: str) -> None:
    model, x = build(name), picture(name)
    with torch.no_grad():
        trace = traced(model, x)
        assert operators(trace) <= {"aten", "prim"}, "other operators do not run outside this package"
        for batch in (2, 1, 3):
            x = picture(name, batch)
            assert_close(trace(x), model(x))


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_with_gradients(name: str) -> None:
    model = build(name)
    trace = traced(model, picture(name))
    for batch in (2, 3):
        x = picture(name, batch)
        y = trace(x)
        assert y.requires_grad
        assert_close(y, model(x))
        assert_same(gradients(trace, x), gradients(model, x))


@pytest.mark.parametrize("where", ["the stored grid", "another grid"])
@pytest.mark.parametrize("name", MODELS)
def test_a_trace_at_other_sizes(name: str, where: str) -> None:
    """Tests sizes of whole patches, of traces at the stored grid and at others; all of them resize the positions."""
    model = build(name)
    with torch.no_grad():
        trace = traced(model, picture(name, grid=MODELS[name]["grid"] if where == "the stored grid" else None))
        for grid in OTHER_GRIDS[model.ndim]:
            x = picture(name, 2, grid)
            assert_close(trace(x), model(x), name=f"a grid of {grid}")


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_a_trace_is_saved_and_frozen(name: str) -> None:
    model, x = build(name), picture(name)
    with torch.no_grad():
        torch.jit.save(traced(model, x), buffer := io.BytesIO())
        loaded = torch.jit.load(io.BytesIO(buffer.getvalue()))
        assert_close(loaded(x), model(x))
        assert_close(torch.jit.freeze(loaded.eval())(x), model(x))


@pytest.mark.parametrize("name", ["v1", "v2-3d"])
def test_features_are_traced(name: str) -> None:
    class Taps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build(name)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.net.features(x, (0, -1)))

    model = Taps().eval()
    with torch.no_grad():
        trace = traced(model, picture(name))
        x = picture(name, 1)
        for found, expected in zip(trace(x), model(x), strict=True):
            assert_close(found, expected)


def test_the_tracer_checks_itself() -> None:
    """Runs torch.jit.trace with its own comparison of a second run, which is on by default."""
    model, x = build("v2"), picture()
    with torch.no_grad():
        assert_close(torch.jit.trace(model, x)(x), model(x))


@pytest.mark.parametrize("make", [build, lambda: HierViL(dims=(8, 16), depths=(1, 1), sequence_strides=(8,)).eval()])
def test_scripting_is_refused_in_one_sentence(make: Callable[[], nn.Module]) -> None:
    model = make()
    expected = model(picture())
    for whole in (model, nn.Sequential(model)):
        with raises_one_line(RuntimeError, type(model).__name__, "torch.jit.trace"):
            torch.jit.script(whole)
    assert_close(model(picture()), expected)
