"""The fused form on the backend `triton` equals the plain definition, in values and in all gradients."""

import pytest
import torch
from mlstm_cases import TRITON, device_of
from torch import Tensor

from vil_dense.layers import FusedViLLayer, ViLLayer
from vil_dense.layers.fused import reason_against

pytestmark = TRITON
DEVICE = device_of("triton")
V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False)


def values_and_gradients(layer: ViLLayer, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(torch.linspace(-1, 1, y.numel(), device=y.device).to(y.dtype).view(y.shape))
    return {"y": y, "x": x.grad} | {name: parameter.grad for name, parameter in layer.named_parameters()}


def assert_equals_the_plain_form(
    grid: tuple[int, ...] = (3, 5), bound: float = 1e-4, half: torch.dtype | None = None, **options
) -> None:
    """Within `bound` of the largest value of each tensor; the plain form in float64."""
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
    largest = max(value.abs().max().item() for name, value in expected.items() if name != "y")
    for name, value in expected.items():
        # The norm behind h takes out what scales all of a sequence: this gradient is a small rest of large terms.
        scale = largest if name.endswith("igate.bias") else max(value.abs().max().item(), 1e-2 * largest)
        assert (actual[name].cpu().double() - value).abs().max() <= bound * scale, name
        assert name == "y" or actual[name].dtype == torch.float32


@pytest.mark.parametrize("options", [V1, {}], ids=["v1", "v2"])
@pytest.mark.parametrize("order", ["rows", "rows-reversed", "columns", "columns-reversed"])
def test_equals_the_plain_form(options: dict, order: str) -> None:
    assert_equals_the_plain_form(orders=(order,), **options)


@pytest.mark.parametrize("recompute", [True, False])
def test_several_traversals(recompute: bool) -> None:
    """Their down-projection is outside of the operator."""
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


@pytest.mark.parametrize("recompute", [True, False])
def test_float64_is_refused(recompute: bool) -> None:
    layer = FusedViLLayer(32, backend="triton", recompute=recompute).double().to(DEVICE)
    with pytest.raises(ValueError, match=r"in float32, bfloat16 or float16; got .* in torch.float64"):
        layer(torch.randn(1, 2, 2, 32, dtype=torch.float64, device=DEVICE))
