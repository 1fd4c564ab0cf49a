"""Counts the bytes and launches of a block under mixed precision, on fake tensors: no GPU, no Triton.

A launch moves its inputs and outputs once. The cell's launches are counted by its own host code, all others by a
dispatch mode: casts, norms, products, additions, as eager torch makes them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.gpu.cell import cell_backward, cell_forward
from vil_dense.ops.gpu.launches import count_launches
from vil_dense.ops.gpu.norm import norm_backward, norm_forward

VIEWS = {
    *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "slice", "select", "unsqueeze", "squeeze"),
    *("alias", "detach", "split", "unbind", "as_strided", "t", "empty", "new_empty", "empty_like", "unfold"),
}


class Cost(NamedTuple):
    bytes: int
    launches: int


class CountKernels(TorchDispatchMode):
    """Counts every operator that reads or writes tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if func.is_view or name in VIEWS or func.namespace == "prim":
            return out
        tensors = [x for x in (*tree_leaves((args, kwargs)), *tree_leaves(out)) if isinstance(x, Tensor)]
        self.launches += 1
        self.bytes += sum(map(moved, tensors))
        return out


def moved(x: Tensor) -> int:
    """Bytes of a tensor; what is repeated by a stride of 0 is read once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride else 1
    return count


Block = Callable[[Tensor], Tensor]


class CellFunction(torch.autograd.Function):
    """The cell as an operator: u and z are the halves of one tensor, and so are their gradients."""

    @staticmethod
    def forward(ctx: Any, uz: Tensor, *weights: Tensor | None) -> Tensor:
        u, z = uz.chunk(2, -1)
        ctx.weights = CellWeights(*weights)  # type: ignore[arg-type]
        y, ctx.saved = cell_forward(u, z, ctx.weights, False, False, 1e-6, uz.requires_grad)
        ctx.uz = uz
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        u, z = ctx.uz.chunk(2, -1)
        duz, gradients = cell_backward(dy, u, z, ctx.weights, ctx.saved, False, False, 1e-6)
        return duz, *gradients


class NormFunction(torch.autograd.Function):
    """Returns x and norm(x), so that the gradients of both arrive together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        y, stats = norm_forward(x, weight, bias, 1e-5, torch.bfloat16)
        ctx.save_for_backward(x, weight, stats)
        return x.view_as(x), y

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dy: Tensor) -> Any:
        x, weight, stats = ctx.saved_tensors
        return norm_backward(dy, dx, x, weight, stats)


def cell_weights(E: int) -> CellWeights:
    def new(*shape: int) -> Tensor:
        return torch.empty(*shape, requires_grad=True)

    square = [x for _ in range(3) for x in (new(4, 4, E // 4), new(E))]
    gates = [x for _ in range(2) for x in (new(4, 3 * E), new(4))]
    return CellWeights(new(E, 1, 3, 3), new(E), *square, *gates, new(E), new(E), new(E))


class HalfLinear(torch.nn.Linear):
    """A linear layer as autocast runs it: weights and input are cast to bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        half = (y if y.dtype == torch.bfloat16 else y.bfloat16() for y in (x, self.weight, self.bias))
        return F.linear(*half)


def vil_block(C: int) -> Block:
    """x + down(cell(up(norm(x)))), the norm and the gradient of the first x in one launch each."""
    up, down = HalfLinear(C, 4 * C), HalfLinear(2 * C, C)
    weights, norm = cell_weights(2 * C), torch.nn.LayerNorm(C)

    def run(x: Tensor) -> Tensor:
        x, y = NormFunction.apply(x, norm.weight, norm.bias)
        return x + down(CellFunction.apply(up(y), *weights))

    return run


def vit_block(C: int) -> Block:
    """A transformer block: attention by one kernel (flash attention), MLP of four times the width."""
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
    """Flash attention's two launches: they read q, k and v, and write what has their shape."""

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
    """What one block costs for B images of side x side tokens."""
    with FakeTensorMode():
        run = block(C)
        x = torch.empty(B, side, side, C, requires_grad=train)
        with count_launches() as cell, CountKernels() as counted, torch.set_grad_enabled(train):
            CountKernels.current = counted
            y = run(x)
            if train:
                y.backward(torch.empty_like(y))
    return Cost(counted.bytes + sum(k.bytes for k in cell), counted.launches + len(cell))


SIZES = {"T": 192, "S": 384, "B": 768}
TOKENS = {"128 x 196": (128, 14), "8 x 4096": (8, 64)}


def table() -> str:
    """The budget as a table in Markdown."""
    rows = ["| | tokens | pass | ViL block, MB | launches | half a ViT block, MB | ratio |"]
    rows.append("|---|---|---|---|---|---|---|")
    for tokens, (B, side) in TOKENS.items():
        for name, C in SIZES.items():
            for train in (False, True):
                vil, vit = (cost_of(block, C, B, side, train) for block in (vil_block, vit_block))
                cells = (
                    f"ViL-{name}",
                    tokens,
                    "training" if train else "forward",
                    round(vil.bytes / 1e6),
                    vil.launches,
                )
                half = vit.bytes / 2
                rows.append("| " + " | ".join(map(str, (*cells, round(half / 1e6), f"{vil.bytes / half:.2f}"))) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
