"""Trains in mixed precision without a GPU, where MMEngine's `AmpOptimWrapper` asserts one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs forward passes under `torch.autocast` in bfloat16 on the CPU; weights and updates stay in float32.

    bfloat16 has the exponents of float32, so the loss is not scaled. `--amp` selects this wrapper without a GPU. It is
    faster only on CPUs with bfloat16 instructions (`lscpu`: amx_bf16, avx512_bf16).
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
