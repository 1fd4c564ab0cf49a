"""Tests that the fused norm equals torch's, and adds the gradient of the residual."""

import pytest
import torch
import torch.nn.functional as F
from mlstm_cases import TRITON, device_of

from vil_dense.ops.gpu.norm import norm_backward, norm_forward

pytestmark = TRITON
DEVICE = device_of("triton")


@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch(bias: bool) -> None:
    torch.manual_seed(0)
    x, dy, dresidual = torch.randn(3, 5, 7, 48, device=DEVICE)
    weight, shift = torch.randn(2, 48, device=DEVICE)
    y = norm_forward(x, weight, shift if bias else None, 1e-5, torch.float32)
    leaves = [t.double().requires_grad_() for t in (x, weight, shift)]
    expected = F.layer_norm(leaves[0], (48,), leaves[1], leaves[2] if bias else None, 1e-5)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)
    (expected * dy.double()).sum().backward()
    dx, dweight, *dbias = norm_backward(dy, dresidual, x, weight, shift if bias else None, 1e-5)
    assert leaves[0].grad is not None
    torch.testing.assert_close(dx.double(), leaves[0].grad + dresidual.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(dweight.double(), leaves[1].grad, rtol=0, atol=1e-4)
    assert len(dbias) == bias
    if bias:
        torch.testing.assert_close(dbias[0].double(), leaves[2].grad, rtol=0, atol=1e-4)
