"""Tests that the fused form on the backend `triton` equals the plain definition, in values and in all gradients."""

import pytest
import torch
from mlstm_cases import TRITON, device_of
from refusals import raises_one_line
from torch import Tensor, nn

from vil_dense.layers import FusedViLBlock, FusedViLLayer, ViLBlock, ViLLayer
from vil_dense.layers.fused import reason_against

pytestmark = TRITON
DEVICE = device_of("triton")
V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False)


def values_and_gradients(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(torch.linspace(-1, 1, y.numel(), device=y.device).to(y.dtype).view(y.shape))
    return {"y": y, "x": x.grad} | {name: parameter.grad for name, parameter in layer.named_parameters()}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], bound: float) -> None:
    """Asserts equality within `bound` of the largest value of each tensor, or of a hundredth of all gradients'."""
    largest = max(value.abs().max().item() for name, value in expected.items() if name != "y")
    for name, value in expected.items():
        # The norm behind h takes out what scales all of a sequence: this gradient is a small rest of large terms.
        scale = largest if name.endswith("igate.bias") else max(value.abs().max().item(), 1e-2 * largest)
        assert (actual[name].cpu().double() - value).abs().max() <= bound * scale, name


def assert_equals_the_plain_form(
    grid: tuple[int, ...] = (3, 5), bound: float = 1e-4, half: torch.dtype | None = None, **options
) -> None:
    """Asserts equality with the plain form in float64, within `bound` of the largest value of each tensor."""
    torch.manual_seed(0)
    plain = ViLLayer(32, ndim=len(grid), backend="recurrent", **{k: v for k, v in options.items() if k != "recompute"})
    for parameter in plain.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    fused = FusedViLLayer(32, ndim=len(grid), backend="triton", **options)
    fused.load_state_dict(plain.state_dict())
    fused.to(DEVICE)
    assert reason_against(fused) is None
    x = torch.randn(2, *grid, 32)
    expected = values_and_gradients(plain.double(), x.double())
    with torch.autocast(DEVICE, dtype=half, enabled=half is not None):
        actual = values_and_gradients(fused, x.to(DEVICE))
    assert_close(actual, expected, bound)
    assert {value.dtype for name, value in actual.items() if name != "y"} == {torch.float32}


@pytest.mark.parametrize("options", [V1, {}], ids=["v1", "v2"])
@pytest.mark.parametrize("order", ["rows", "rows-reversed", "columns", "columns-reversed"])
def test_equals_the_plain_form(options: dict, order: str) -> None:
    assert_equals_the_plain_form(orders=(order,), **options)


@pytest.mark.parametrize("recompute", [True, False])
def test_several_traversals(recompute: bool) -> None:
    """Tests a layer whose down-projection is outside of the operator."""
    assert_equals_the_plain_form(orders=("rows", "columns-reversed"), recompute=recompute)


def test_saved_tensors() -> None:
    assert_equals_the_plain_form(orders=("rows-reversed",), recompute=False)


def test_volume_in_depth() -> None:
    assert_equals_the_plain_form((2, 3, 4), orders=("depth-reversed",))


def test_autocast() -> None:
    assert_equals_the_plain_form(half=torch.bfloat16, bound=0.1)


def test_compiled_as_one_node() -> None:
    torch.manual_seed(0)
    layer, x = FusedViLLayer(32, backend="triton").to(DEVICE), torch.randn(1, 3, 5, 32, device=DEVICE)
    expected = values_and_gradients(layer, x)
    layer.zero_grad()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    actual = values_and_gradients(compiled, x)
    torch.testing.assert_close([*actual.values()], [*expected.values()])


def test_without_gradients() -> None:
    layer, x = FusedViLLayer(32, backend="triton").to(DEVICE), torch.randn(1, 3, 5, 32, device=DEVICE)
    with torch.inference_mode():
        y = layer(x)
    torch.testing.assert_close(y, layer(x))


def test_second_derivatives_are_refused() -> None:
    layer, x = FusedViLLayer(32, backend="triton").to(DEVICE), torch.randn(1, 2, 2, 32, device=DEVICE)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


@pytest.fixture
def fused_norms(monkeypatch) -> list[str]:
    """Returns the list of the norm's kernels that ran."""
    from vil_dense.ops.gpu import norm

    ran, launch = [], norm.launch
    monkeypatch.setattr(
        norm, "launch", lambda kernel, *args, **options: [ran.append(kernel), launch(kernel, *args, **options)]
    )
    return ran


def blocks(**options) -> tuple[ViLBlock, FusedViLBlock]:
    """Returns a plain block in float64 and a fused one with the same weights, no parameter at zero."""
    torch.manual_seed(0)
    plain = ViLBlock(32, backend="recurrent", **options)
    for parameter in plain.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    fused = FusedViLBlock(32, backend="triton", **options)
    fused.load_state_dict(plain.state_dict())
    return plain.double(), fused.to(DEVICE)


def assert_equal_blocks(
    plain: ViLBlock, fused: nn.Module, bound: float = 1e-4, half: torch.dtype | None = None
) -> None:
    """Asserts equality within `bound` of the largest value of each tensor."""
    x = torch.randn(3, 3, 5, 32)
    torch.manual_seed(1)  # of the samples that stochastic depth draws
    expected = values_and_gradients(plain, x.double())
    torch.manual_seed(1)
    with torch.autocast(DEVICE, dtype=half, enabled=half is not None):
        actual = values_and_gradients(fused, x.to(DEVICE))
    assert_close(actual, expected, bound)
    assert {value.dtype for value in actual.values()} == {torch.float32}


@pytest.mark.parametrize("options", [{}, dict(norm_bias=False, layerscale=0.5)], ids=["", "layerscale"])
def test_block_equals_the_plain_block(options: dict, fused_norms: list[str]) -> None:
    assert_equal_blocks(*blocks(**options))
    assert fused_norms == ["norm_forward", "norm_gradients"]


def test_block_under_autocast(fused_norms: list[str]) -> None:
    """Tests that the norm is written in the dtype of autocast."""
    plain, fused = blocks()
    written = []
    fused.layer.register_forward_pre_hook(lambda layer, args: written.append(args[0].dtype))
    assert_equal_blocks(plain, fused, bound=0.1, half=torch.bfloat16)
    assert written == [torch.bfloat16] and fused_norms == ["norm_forward", "norm_gradients"]


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU draws other samples")
@pytest.mark.parametrize("form", ["bernoulli", "subset"])
def test_block_with_stochastic_depth(form: str, fused_norms: list[str]) -> None:
    """Tests blocks whose branch may get a part of x only: the residual's gradient is added outside of the kernel."""
    assert_equal_blocks(*blocks(drop_path=1 / 3, drop_path_form=form))
    assert fused_norms == ["norm_forward", "norm_gradients"]


def test_block_compiled_as_a_whole(fused_norms: list[str]) -> None:
    plain, fused = blocks()
    fused.compile(backend="aot_eager", fullgraph=True)
    assert_equal_blocks(plain, fused)
    assert fused_norms == ["norm_forward", "norm_gradients"]


@pytest.mark.parametrize("change", ["hook", "module", "backend"])
def test_block_calls_its_norm_where_that_could_be_more(change: str, fused_norms: list[str]) -> None:
    plain, fused = blocks()
    called = []
    if change == "hook":
        fused.norm.register_forward_hook(lambda *_: called.append("norm"))
    elif change == "module":
        fused.norm = nn.Sequential(fused.norm)
    else:
        for scan in fused.layer.scans:
            scan.backend = "chunkwise"
    assert_equal_blocks(plain, fused) if change != "module" else fused(torch.randn(1, 3, 5, 32, device=DEVICE))
    assert not fused_norms and called == (["norm"] if change == "hook" else [])


def test_block_in_inference() -> None:
    plain, fused = blocks()
    x = torch.randn(2, 3, 5, 32)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x.to(DEVICE)).cpu(), plain(x.double()).float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("recompute", [True, False])
def test_float64_is_refused(recompute: bool) -> None:
    layer = FusedViLLayer(32, backend="triton", recompute=recompute).double().to(DEVICE)
    with raises_one_line(ValueError, "float64"):
        layer(torch.randn(1, 2, 2, 32, dtype=torch.float64, device=DEVICE))
