"""Tests the linear map by oneDNN: values, gradients, and when torch's own takes its place."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vil_dense.ops import linear as linear_module
from vil_dense.ops.linear import linear


@pytest.fixture(autouse=True)
def _slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every CPU one on which MKL is slow."""
    monkeypatch.setattr(linear_module, "mkl_is_slow", lambda: True)


class Names(TorchDispatchMode):
    """Notes the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def tensors(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Returns an input (*shape), a weight (24, C) and a bias (24)."""
    torch.manual_seed(0)
    sizes = shape, (24, shape[-1]), (24,)
    x, weight, bias = (torch.randn(size, dtype=dtype, requires_grad=True) for size in sizes)
    return x, weight, bias


@pytest.mark.parametrize("shape", [(16,), (5, 16), (2, 3, 4, 16), (0, 16)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], has_bias: bool) -> None:
    x, weight, bias = tensors(*shape)
    args = (x, weight, bias) if has_bias else (x, weight)
    found = linear(x, weight, bias if has_bias else None)
    expected = F.linear(*args)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, args, gradient), torch.autograd.grad(expected, args, gradient)
    )


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_onednn_is_used_and_counted() -> None:
    x, weight, bias = tensors(5, 16)
    with FlopCounterMode(display=False) as counter, Names() as names:
        y = linear(x, weight, bias)
        assert y.is_contiguous()
        y.sum().backward()
    assert names.found.count("aten::mkldnn_convolution") == 3
    assert not {"aten::mm", "aten::addmm", "aten::convolution_backward"} & {*names.found}
    assert counter.get_total_flops() == 3 * 2 * 5 * 16 * 24


def test_second_derivatives_are_exact() -> None:
    """Checks them by those of torch."""
    x, weight, bias = tensors(2, 3)

    def squares(x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight, bias).square().sum()

    found = torch.autograd.functional.hessian(squares, (x, weight))
    expected = torch.autograd.functional.hessian(
        lambda x, weight: F.linear(x, weight, bias).square().sum(), (x, weight)
    )
    torch.testing.assert_close(found, expected)


def test_torch_computes_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks float64, autocast, fake tensors, another CPU and a switched-off oneDNN."""
    x, weight, bias = tensors(5, 16)
    with Names() as names:
        linear(*tensors(5, 16, dtype=torch.float64))
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(x, weight, bias).dtype == torch.bfloat16
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        linear(x, weight, bias)
        monkeypatch.undo()
        monkeypatch.setattr(linear_module, "mkl_is_slow", lambda: False)
        linear(x, weight, bias)
    assert "aten::mkldnn_convolution" not in names.found
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert linear(*tensors(5, 16)).shape == (5, 24)
