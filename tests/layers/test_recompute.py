"""What is computed again: no number changes, nothing but inputs is kept, and what needs no gradient gets none."""

from collections.abc import Iterator

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor, nn

from vil_dense.layers.recompute import recompute
from vil_dense.layers.vil import ViLLayer


def layer(**options: bool) -> ViLLayer:
    torch.manual_seed(0)
    layer = ViLLayer(32, **options)
    layer.scans[0].fgate.weight.data.normal_()
    return layer


@pytest.mark.parametrize("frozen", [(), ("scans.0.skip", "proj_down.bias"), ("proj_up.weight", "proj_up.bias")])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "autocast"])
@pytest.mark.parametrize("inside", [False, True], ids=["after autocast", "within autocast"])
def test_gradients_are_those_of_what_is_kept(frozen: tuple[str, ...], dtype: torch.dtype | None, inside: bool) -> None:
    """In the precision of the forward pass, wherever the backward pass is called."""
    x, gradients = torch.randn(2, 5, 7, 32), []
    for recomputed in (False, True):
        model = layer(recompute=recomputed)
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        precision = torch.autocast("cpu", dtype=dtype, enabled=dtype is not None)
        with precision:
            y = model(x)
            if inside:
                y.float().square().sum().backward()
        if not inside:
            y.float().square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert {name for name, gradient in gradients[1].items() if gradient is None} == set(frozen)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


def test_only_tensors_given_are_kept() -> None:
    weight = torch.randn(64, 64, requires_grad=True)

    def tall(x: Tensor) -> Tensor:
        for _ in range(20):
            x = (x @ weight).sin()
        return x

    def weights() -> Iterator[Tensor]:
        yield weight

    x, left = torch.randn(64, 64, requires_grad=True), []
    for function in (tall, lambda x: recompute(tall, weights, x)):
        with LiveMemory() as memory:
            y = function(x)
            left.append(memory.live)
        del y
    assert left[1] == x.nbytes and left[0] > 20 * x.nbytes


def test_gradients_can_be_asked_for_by_name_but_not_twice() -> None:
    model = nn.Sequential(nn.Linear(32, 32), layer())
    y = model(torch.randn(1, 4, 4, 32))
    (gradient,) = torch.autograd.grad(y.square().sum(), model[0].bias, create_graph=True)
    assert gradient.shape == (32,) and model[0].bias.grad is None
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
