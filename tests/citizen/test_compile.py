"""Tests torch.compile of the whole network: one graph without breaks, few graphs for many sizes, eager values."""

import copy
from collections.abc import Callable

import pytest
import torch
from small_models import MODELS, PATCH, assert_close, assert_same, build, gradients, picture
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from vil_dense.ops.compiled import compiler_problem

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

SIZES = [
    (32, 40), (36, 36), (50, 60), (33, 64), (64, 33), (96, 20),
    (20, 96), (41, 43), (16, 24), (80, 80), (28, 75), (61, 52),
]  # fmt: skip
"""Pixels: 24 to 400 tokens of 4 x 4, one chunk or several; whole patches and not."""

VOLUMES = [(8, 12, 20), (12, 12, 12), (9, 13, 21), (16, 8, 24)]


class Counted(CompileCounterWithBackend):
    """Counts graphs and keeps the operators in them."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.targets: list[list[str]] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> Callable:
        self.targets.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return super().__call__(graph, inputs)


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.fixture(params=["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> Counted:
    """Yields a backend without and one with generated code."""
    if request.param == "inductor" and (problem := compiler_problem("cpu")):
        pytest.skip(f"nothing can be compiled here ({problem})")
    torch._dynamo.reset()
    return Counted(request.param)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "v2" else pytest.mark.slow) for name in MODELS]
)
def test_forward_and_training_step(name: str, backend: Counted) -> None:
    """Tests values and gradients, and that the operator of a block is one node of its graph."""
    model, x = build(name, depth=1), picture(name)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=False, backend=backend)
    with torch.no_grad():
        assert_close(compiled(x), model(x))
    ours = [target for target in backend.targets[0] if "vil_dense" in target]
    assert len(ours) == len(model.blocks), backend.targets[0]
    assert_same(gradients(compiled._orig_mod, x, of=compiled), gradients(model, x))
    assert backend.frame_count == 2

    for network in (model, compiled):
        torch.optim.SGD(network.parameters(), lr=0.01).step()
    assert_close(compiled(x), model(x), 1e-3)
    assert backend.frame_count == 2


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_twelve_sizes_in_four_graphs(dynamic: bool | None, backend: Counted) -> None:
    model = build("v2", depth=1)
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend=backend)
    with torch.no_grad():
        for size in SIZES:
            x = torch.randn(2, 3, *size)
            assert_close(compiled(x), model(x), name=f"{size}")
    assert backend.frame_count <= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "v2-3d"])
def test_many_sizes_and_batches_in_training(name: str) -> None:
    """Tests batches of two or more: a batch of one is a graph of its own for any module."""
    model, backend = build(name, depth=1), Counted("aot_eager")
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend=backend)
    sizes = SIZES if model.ndim == 2 else VOLUMES
    for index, size in enumerate(sizes):
        x = torch.randn(2 + index % 3, 3, *size)
        assert_same(gradients(compiled._orig_mod, x, of=compiled), gradients(model, x))
    assert backend.frame_count <= 4


@pytest.mark.slow
def test_max_autotune() -> None:
    model, x = build("v2", depth=1), picture()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, mode="max-autotune-no-cudagraphs")
    with torch.no_grad():
        assert_close(compiled(x), model(x))
    assert_same(gradients(compiled._orig_mod, x, of=compiled), gradients(model, x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [dict(with_cp=True, drop_path=0.3), dict(direction="quad")],
    ids=["recomputed", "quad"],
)
def test_options_of_training(options: dict) -> None:
    model, x = build("v2", **options).train(), picture()
    backend = Counted("aot_eager")
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=False, backend=backend)
    torch.manual_seed(5)
    found = gradients(compiled._orig_mod, x, of=compiled)
    torch.manual_seed(5)
    expected = gradients(model, x)
    assert backend.frame_count == 1
    assert_same(found, expected)


@pytest.mark.slow
def test_autocast() -> None:
    model, x, backend = build("v2"), picture(), Counted("aot_eager")
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=False, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(compiled._orig_mod, x, of=compiled)
        expected = gradients(model, x)
        assert_close(compiled(x), model(x), 0.05)
    assert_same(found, expected, 0.2)


@pytest.mark.slow
def test_features_and_a_compiled_block() -> None:
    model, x = build("v1"), picture("v1")
    backend = Counted("aot_eager")
    features = torch.compile(lambda x: model.features(x, (0, -1)), fullgraph=True, dynamic=False, backend=backend)
    with torch.no_grad():
        for found, expected in zip(features(x), model.features(x, (0, -1)), strict=True):
            assert_close(found, expected)
        expected = model(x)
        for block in model.blocks:
            block.compile(fullgraph=True, dynamic=False, backend=backend)
        assert_close(model(x), expected)
    assert backend.frame_count == 3  # both blocks differ in their order


def test_an_adapter_and_a_hook_are_compiled_too() -> None:
    model, x = build("v2", depth=1), picture()
    plain = model(x).detach()

    class Doubled(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base = base

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.base(x)

    for block in model.blocks:
        block.layer.proj_up = Doubled(block.layer.proj_up)
        block.layer.proj_down.register_forward_hook(lambda module, args, output: output / 3)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    assert_close(compiled(x), model(x))
    assert (compiled(x) - plain).abs().max() > 1e-3


def test_sizes_are_patches_that_end_and_do_not() -> None:
    assert {bool(length % PATCH) for size in SIZES for length in size} == {False, True}
