"""Counts the bytes and launches of a block under mixed precision, on fake tensors: no GPU, no Triton.

A launch moves its inputs and outputs once. Launches of our kernels are counted by the host code that makes them, all
others by a dispatch mode: casts, norms, products, additions, as eager torch makes them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vil_dense.layers import FusedViLBlock
from vil_dense.ops.gpu.launches import count_launches
from vil_dense.ops.operators import KERNELS

VIEWS = {
    *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "slice", "select", "unsqueeze", "squeeze"),
    *("alias", "detach", "split", "unbind", "as_strided", "t", "empty", "new_empty", "empty_like", "unfold"),
}


class Cost(NamedTuple):
    bytes: int
    launches: int
    saved: int
    """Bytes that the forward pass keeps for the backward pass, parameters left out."""


class CountKernels(TorchDispatchMode):
    """Counts every operator that reads or writes tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in KERNELS:  # what our operators do inside
            with self:
                return KERNELS[func](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if func.is_view or name in VIEWS or func.namespace == "prim":
            return out
        tensors = [x for x in (*tree_leaves((args, kwargs)), *tree_leaves(out)) if isinstance(x, Tensor)]
        self.launches += 1
        self.bytes += sum(map(moved, tensors))
        return out


def moved(x: Tensor) -> int:
    """Returns the bytes of a tensor; values that a stride of 0 repeats are read once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride else 1
    return count


Block = Callable[[Tensor], Tensor]


class HalfLinear(torch.nn.Linear):
    """Casts weights and input to bfloat16, as autocast does."""

    def forward(self, x: Tensor) -> Tensor:
        half = (y if y.dtype == torch.bfloat16 else y.bfloat16() for y in (x, self.weight, self.bias))
        return F.linear(*half)


def vil_block(C: int, recompute: bool = True) -> Block:
    """Makes the block of a network; its launches are counted without triton, which the constructor would ask for."""
    block = FusedViLBlock(C, recompute=recompute)
    for scan in block.layer.scans:
        scan.backend = "triton"
    return block


def vit_block(C: int) -> Block:
    """Makes a transformer block: attention by one kernel (flash attention), MLP of four times the width."""
    layers = [HalfLinear(a * C, b * C) for a, b in ((1, 3), (1, 1), (1, 4), (4, 1))]
    norms = [torch.nn.LayerNorm(C) for _ in range(2)]

    def run(x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)
        qkv = layers[0](norms[0](tokens)).unflatten(-1, (3, C // 64, 64)).permute(2, 0, 3, 1, 4)
        h = Attention.apply(*qkv.unbind())
        tokens = tokens + layers[1](h.transpose(1, 2).flatten(2))
        return tokens + layers[3](F.gelu(layers[2](norms[1](tokens))))

    return run


class Attention(torch.autograd.Function):
    """Stands for flash attention's two launches: they read q, k and v, and write what has their shape."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return torch.ops.aten.addcmul(q, k, v)  # one launch of the same bytes

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> Any:
        q, k, v = ctx.saved_tensors
        mode = CountKernels.current
        mode.launches += 1
        mode.bytes += 8 * moved(q)  # q, k, v, h, dh, and three gradients
        return tuple(torch.empty_like(x) for x in (q, k, v))


def cost_of(block: Callable[[int], Block], C: int, B: int, side: int, train: bool) -> Cost:
    """Returns what one block costs for B images of side x side tokens."""
    saved: dict[int, Tensor] = {}

    def save(x: Tensor) -> Tensor:
        if x.device.type != "meta" and not isinstance(x, torch.nn.Parameter):
            saved[x.untyped_storage()._cdata] = x
        return x

    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        run = block(C)
        x = torch.empty(B, side, side, C, requires_grad=train)
        with count_launches() as ours, CountKernels() as counted, torch.set_grad_enabled(train):
            CountKernels.current = counted
            with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
                y = run(x)
            if train:
                y.backward(torch.empty_like(y))
        kept = sum(x.untyped_storage().nbytes() for x in saved.values())
    return Cost(counted.bytes + sum(k.bytes for k in ours), counted.launches + len(ours), kept)


SIZES = {"T": 192, "S": 384, "B": 768}
TOKENS = {"128 x 196": (128, 14), "8 x 4096": (8, 64)}


FORMS = {
    "forward": (False, True),
    "training": (True, True),
    "training, `recompute=False`": (True, False),
}
"""Passes by name: training or not, with recomputation or without."""


def table() -> str:
    """Returns the budget as a table in Markdown."""
    rows = ["| | tokens | pass | launches | ViL block, MB | half a ViT block, MB | ratio | saved, MB | half a ViT's |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for tokens, (B, side) in TOKENS.items():
        for name, C in SIZES.items():
            for form, (train, recompute) in FORMS.items():
                ours = cost_of(partial(vil_block, recompute=recompute), C, B, side, train)
                vit = cost_of(vit_block, C, B, side, train)
                moved = [round(ours.bytes / 1e6), round(vit.bytes / 2e6), f"{ours.bytes / vit.bytes * 2:.2f}"]
                saved = [round(ours.saved / 1e6), round(vit.saved / 2e6)] if train else ["-", "-"]
                cells = [f"ViL-{name}", tokens, form, ours.launches, *moved, *saved]
                rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
