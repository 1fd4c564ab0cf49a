"""Tests that the fused cell refuses what it cannot compute; this needs neither a GPU nor Triton."""

import pytest
import torch
from cell_definition import random_weights
from refusals import raises_one_line

from vil_dense.ops.gpu.cell import cell_forward


@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float64), (torch.float32, torch.bfloat16)])
def test_refuses_in_words(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    u, z = (torch.zeros(1, 2, 2, 32, dtype=dtype) for dtype in dtypes)
    with raises_one_line(ValueError, "float16"):
        cell_forward(u, z, random_weights(32, (3, 3)), False, False, 1e-6, False)
