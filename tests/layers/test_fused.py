"""Tests that the fused form equals the plain one, and steps aside where a module must be called."""

import copy

import pytest
import torch
from live_memory import LiveMemory
from refusals import raises_one_line
from torch import Tensor, nn

from vil_dense.backbones import DIRECTIONS
from vil_dense.layers import FusedViLBlock, FusedViLLayer, ViLBlock, ViLLayer
from vil_dense.layers.fused import describe_forms, reason_against
from vil_dense.ops import cell, chunkwise

V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False)
GRIDS = {2: [(5, 6), (9, 20)], 3: [(2, 3, 4), (3, 6, 5)]}
DEPTHWISE = ("depth", "depth-reversed")


def pair(ndim: int = 2, **options) -> tuple[ViLLayer, FusedViLLayer]:
    """Returns a plain and a fused layer with the same weights, float64, no parameter at zero."""
    torch.manual_seed(0)
    fused = FusedViLLayer(32, ndim=ndim, **options).double()
    for parameter in fused.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    plain = ViLLayer(32, ndim=ndim, **options).double()
    plain.load_state_dict(fused.state_dict())
    assert reason_against(fused) is None
    return plain, fused


def values_and_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, (x, *layer.parameters()), cotangent)]


@pytest.mark.parametrize("options", [V1, {}], ids=["v1", "v2"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_equals_the_plain_form(options: dict, direction: str, ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests one segment and several, with sequences side by side and one after another."""
    design = {key: value for key, value in DIRECTIONS[direction].items() if key != "alternate"}
    layers = [dict(design, orders=(order,)) for order in design["orders"]]
    if "alternate" not in DIRECTIONS[direction]:
        layers = [design]
    for layer in layers:
        plain, fused = pair(ndim, **options, **layer)
        for grid in GRIDS[ndim]:
            x = torch.randn(3, *grid, 32, dtype=torch.float64)
            expected = values_and_gradients(plain, x)
            for tokens in (640, 400, 70):
                monkeypatch.setattr(cell, "segment_tokens", lambda tokens=tokens: tokens)
                torch.testing.assert_close(values_and_gradients(fused, x), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("order", ["rows", "columns-reversed"])
@pytest.mark.parametrize("grid", [(5, 6), (9, 20), (56, 60)])
def test_sequences_side_by_side_are_those_one_after_the_other(
    order: str, grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests the form for GPUs: one chunk, some, several segments."""
    x, results = torch.randn(3, *grid, 32, dtype=torch.float64), []
    for gpu in (False, True):
        monkeypatch.setattr(chunkwise, "on_gpu", lambda x, gpu=gpu: gpu)
        monkeypatch.setattr(cell, "on_gpu", lambda x, gpu=gpu: gpu)
        results.append(values_and_gradients(pair(orders=(order,))[1], x))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("order", DEPTHWISE)
def test_equals_the_plain_form_in_depth(order: str) -> None:
    plain, fused = pair(3, orders=(order,))
    x = torch.randn(2, 3, 4, 5, 32, dtype=torch.float64)
    torch.testing.assert_close(values_and_gradients(fused, x), values_and_gradients(plain, x), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_near_as_the_plain_form(dtype: torch.dtype) -> None:
    """Compares both with float64, under autocast and with weights in half precision."""
    plain, fused = pair()
    x = torch.randn(2, 9, 20, 32, dtype=torch.float64)
    expected = plain(x)
    for layer in (plain, fused):
        with torch.autocast("cpu", dtype=dtype):
            autocast = layer.float()(x.float())
        pure = layer.to(dtype)(x.to(dtype))
        assert autocast.dtype == pure.dtype == dtype
        for y in (autocast, pure):
            assert (y.double() - expected).abs().max() < 0.03 * expected.abs().max()


def hook(layer: ViLLayer) -> None:
    layer.scans[0].q_proj.register_forward_hook(lambda *_: None)


def replace(layer: ViLLayer) -> None:
    layer.scans[0].fgate = nn.Sequential(layer.scans[0].fgate)


def parametrize(layer: ViLLayer) -> None:
    nn.utils.parametrize.register_parametrization(layer.scans[0].igate, "weight", nn.Identity())


@pytest.mark.parametrize(
    ("change", "reason"),
    [(hook, "q_proj (Block"), (replace, "fgate (Seq"), (parametrize, "igate (Param")],
)
def test_steps_aside(change, reason: str) -> None:
    plain, fused = pair()
    x = torch.randn(1, 5, 6, 32, dtype=torch.float64)
    expected = plain(x)
    change(fused)
    assert reason_against(fused).startswith(reason)
    torch.testing.assert_close(fused(x), expected)


def test_steps_aside_for_weights_that_are_handed_in() -> None:
    plain, fused = pair()
    x = torch.randn(1, 5, 6, 32, dtype=torch.float64)
    weights = {name: value.detach() * 1.1 for name, value in plain.named_parameters()}
    expected = torch.func.functional_call(plain, weights, x)
    torch.testing.assert_close(torch.func.functional_call(fused, weights, x), expected)
    assert "'parallel'" in reason_against(ViLLayer(32, backend="parallel"))


def test_forms_are_described() -> None:
    network = nn.Sequential(FusedViLLayer(32), FusedViLLayer(32))
    assert describe_forms(network) == "2 of 2 layers fused"
    hook(network[1])
    assert describe_forms(network).startswith("1 of 2 layers fused (q_proj")


@pytest.mark.parametrize("frozen", [(), ("scans.0.skip", "proj_down.bias"), ("proj_up.weight", "proj_up.bias")])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "autocast"])
@pytest.mark.parametrize("inside", [False, True], ids=["after autocast", "within autocast"])
def test_recomputed_gradients_are_those_of_saved_tensors(
    frozen: tuple[str, ...], dtype: torch.dtype | None, inside: bool
) -> None:
    """Tests backward passes inside and outside of autocast; frozen parameters get no gradient."""
    x, gradients = torch.randn(2, 5, 7, 32), []
    for recompute in (False, True):
        layer = pair(recompute=recompute)[1].float()
        for name in frozen:
            layer.get_parameter(name).requires_grad_(False)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            y = layer(x)
            if inside and recompute:
                y.float().square().sum().backward()
        if not (inside and recompute):
            y.float().square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in layer.named_parameters()})
    assert {name for name, gradient in gradients[1].items() if gradient is None} == set(frozen)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_only_inputs_are_saved() -> None:
    """Tests that a layer saves its input and its up-projection only."""
    x, saved = torch.randn(1, 24, 24, 32, requires_grad=True), []
    for recompute in (False, True):
        layer = FusedViLLayer(32, recompute=recompute)
        with LiveMemory() as memory:
            y = layer(x)
            saved.append(memory.live / x.nbytes)
        del y
    assert saved[1] < 6.1 and saved[0] > 20


def test_second_derivatives_are_refused() -> None:
    model = nn.Sequential(nn.Linear(32, 32), FusedViLLayer(32))
    y = model(torch.randn(1, 4, 4, 32))
    (gradient,) = torch.autograd.grad(y.square().sum(), model[0].bias, create_graph=True)
    assert gradient.shape == (32,) and model[0].bias.grad is None
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


def test_batched_gradients_are_refused_or_right() -> None:
    """Tests the gradients of several outputs in one call, which the operator cannot take."""

    def found(layer: nn.Module, x: Tensor, vectorize: bool) -> Tensor:
        return torch.autograd.functional.jacobian(lambda x: layer(x)[0, 0, 0, :3], x, vectorize=vectorize)

    layer, x = FusedViLLayer(16).double(), torch.randn(1, 2, 3, 16, dtype=torch.float64)
    expected = found(layer, x, False)
    with raises_one_line(RuntimeError, "torch.func.jacrev"):
        found(layer, x, True)
    layer.recompute = False
    torch.testing.assert_close(found(layer, x, True), expected)


def test_second_derivatives_by_a_backend_that_has_them() -> None:
    layer = FusedViLLayer(32, backend="parallel").double()
    x = torch.randn(1, 3, 4, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).sum((1, 2)), x, atol=1e-4, nondet_tol=1e-8)


def test_a_block_is_a_plain_block_in_the_fused_form() -> None:
    block = FusedViLBlock(32)
    assert isinstance(block, ViLBlock) and isinstance(copy.deepcopy(block).layer, FusedViLLayer)
    assert [*ViLBlock(32).state_dict()] == [*block.state_dict()]
