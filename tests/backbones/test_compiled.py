"""Tests that compiled blocks take few graphs for all sizes, and give the numbers of eager ones, gradients too."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from vil_dense.backbones import VisionLSTM
from vil_dense.ops import cell, chunkwise
from vil_dense.ops.compiled import compiler_problem

pytestmark = pytest.mark.slow

# Tokens, 72 to 1024: some chunks, and (more than 768 of heads this wide) several segments; whole and not. What fits one
# chunk, 64 tokens, has a graph of its own.
SIZES = [
    (9, 8),
    (12, 20),
    (13, 11),
    (14, 14),
    (17, 16),
    (20, 20),
    (24, 37),
    (32, 32),
    (40, 2),
    (15, 30),
    (2, 400),
    (29, 27),
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    if problem := compiler_problem("cpu"):
        pytest.skip(f"nothing can be compiled here ({problem})")
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("direction", ["bi-alternating", "quad-alternating"])
def test_twelve_sizes_need_three_graphs(direction: str) -> None:
    torch.manual_seed(0)
    eager = VisionLSTM(dim=128, depth=4, patch_size=4, direction=direction).eval()
    compiled = copy.deepcopy(eager).compile_blocks()
    counters.clear()  # of the graph that shows that something can be compiled
    with torch.no_grad():
        for size in SIZES:
            x = torch.randn(1, 3, *(4 * axis for axis in size))
            torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize("tokens", [640, 300])
def test_so_do_long_sequences(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests sizes of one segment and of several, at two lengths of a segment."""
    monkeypatch.setattr(cell, "segment_tokens", lambda: tokens)
    assert graphs([1] * 12) <= 3


def test_so_do_sequences_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests the form for GPUs, in batches of two or more."""
    for module in (cell, chunkwise):
        monkeypatch.setattr(module, "on_gpu", lambda x: True)
    assert graphs([2, 3, 5] * 4) <= 3


def graphs(batches: list[int]) -> int:
    """Returns how many graphs a network takes for the `SIZES`, each with its batch; its numbers are those of eager."""
    torch.manual_seed(0)
    eager = VisionLSTM(dim=128, depth=2, patch_size=4).eval()
    compiled = copy.deepcopy(eager).compile_blocks()
    counters.clear()
    with torch.no_grad():
        for B, size in zip(batches, SIZES, strict=True):
            x = torch.randn(B, 3, *(4 * axis for axis in size))
            torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
    return counters["stats"]["unique_graphs"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_gradients_equal_eager_ones() -> None:
    torch.manual_seed(0)
    eager = VisionLSTM(dim=128, depth=2, patch_size=4)
    compiled = copy.deepcopy(eager).compile_blocks()
    counters.clear()
    sizes = [(9, 8), (29, 27)]
    with torch.no_grad():  # training's first pass takes the graphs of inference
        for size in sizes:
            compiled(torch.randn(1, 3, *(4 * axis for axis in size)))
    without_gradients = counters["stats"]["unique_graphs"]
    assert without_gradients <= 3
    for size in sizes:
        x = torch.randn(1, 3, *(4 * axis for axis in size))
        cotangent = torch.randn(1, *size, 128)
        for model in (eager, compiled):
            model.zero_grad()
            model(x).backward(cotangent)
        for (name, expected), found in zip(eager.named_parameters(), compiled.parameters(), strict=True):
            largest = expected.grad.abs().max().item()
            torch.testing.assert_close(
                found.grad, expected.grad, rtol=0, atol=1e-4 * largest, msg=lambda text, name=name: f"{name}: {text}"
            )
    assert counters["stats"]["unique_graphs"] - without_gradients <= 3
