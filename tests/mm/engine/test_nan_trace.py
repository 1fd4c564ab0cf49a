"""Tests that the module that first gives a number that is not finite is named, on the way there and on the way back."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vil_dense.mm.engine.hooks.nan_trace import first_not_finite, is_finite


class NaNGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * torch.nan


class Part(nn.Module):
    """Goes wrong where `fault` says: in `forward`, in `backward`, or nowhere."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.linear = fault, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        if self.fault == "forward":
            return x / torch.zeros_like(x)
        return NaNGradient.apply(x) if self.fault == "backward" else x.relu()


class Residual(nn.Module):
    """Has two branches on one input; between them arithmetic of its own."""

    def __init__(self, left: str = "", right: str = "", own: bool = False, recompute: bool = False) -> None:
        super().__init__()
        self.left, self.right, self.own, self.recompute = Part(left), Part(right), own, recompute
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute:
            return checkpoint(self.inside, x, use_reentrant=False)
        return self.inside(x)

    def inside(self, x: Tensor) -> Tensor:
        y = x + self.left(x) + self.right(x)
        return self.norm(y * torch.inf if self.own else y)


def find(block: nn.Module, x: Tensor | None = None) -> str:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), block, Part())
    x = torch.randn(3, 4) if x is None else x
    return first_not_finite(model, lambda: model(x).square().sum())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("options", "where"),
    [
        (dict(left="forward"), "the output of 1.left (Part)"),
        (dict(right="forward"), "the output of 1.right (Part)"),
        (dict(own=True), "1 (Residual), in the input of 1.norm (LayerNorm)"),
        (dict(left="backward"), "the gradient of 1.left (Part)"),
        (dict(right="backward"), "the gradient of 1.right (Part)"),
        (dict(), ""),
    ],
)
def test_the_innermost_module_is_named(options: dict, where: str, recompute: bool):
    assert find(Residual(**options, recompute=recompute)) == where


def test_batch_weight_and_loss():
    assert find(Residual(), torch.full((3, 4), torch.nan)) == "the batch itself"
    block = Residual()
    block.left.linear.bias.data[1] = torch.inf
    assert find(block) == "1.left.linear.bias, which was not finite before the step"
    model = nn.Linear(4, 1)
    found = first_not_finite(model, lambda: model(torch.ones(2, 4)).sum() * torch.inf)
    assert found == "the loss, after all modules of Linear"


def test_no_hook_stays():
    model = nn.Sequential(Part(), Part())
    first_not_finite(model, lambda: model(torch.randn(2, 4)).sum())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_is_finite_looks_into_structures():
    whole = dict(a=[torch.ones(2), torch.tensor(3)], b="text")
    assert is_finite(whole)
    assert not is_finite(dict(whole, c=(torch.tensor([1.0, torch.inf]),)))
