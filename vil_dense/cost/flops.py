"""Counts the multiply-adds of networks with ViL blocks, for each form of the operator.

The unit is one multiply-add (MAC), that of the papers' GFLOPs; torch's FlopCounterMode counts two FLOPs for it.
The products with weights (projections, convolutions, the block-diagonal q, k and v maps, gates) and those between
activations (attention, the mLSTM's matrices) are counted. Element-wise work is not: norms, activations, exponentials,
biases, residuals, pooling, resizing.

A ViL block is counted as the paper defines it, not as its code happens to be fused: each weight is used once for each
token and order. All else runs under FlopCounterMode, on tensors without memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vil_dense.backbones.vision_lstm import DIRECTIONS, VARIANTS, VisionLSTM
from vil_dense.layers.vil import ViLBlock
from vil_dense.ops.cell_weights import NUM_HEADS
from vil_dense.ops.chunkwise import mlstm_chunkwise


def parallel_macs(S: int, DH: int) -> int:
    """Counts q k^T and w v, the whole squares: the masked half is computed too."""
    return 2 * S * S * DH


def recurrent_macs(S: int, DH: int) -> int:
    """Counts for each token the writing of k v^T to C and of k to n, and the products q C and q n."""
    return S * 2 * (DH * DH + DH)


@cache
def chunkwise_macs(S: int, DH: int) -> int:
    """Counts the operator's own products: squares inside chunks, states written and read, decays between chunks."""
    q = torch.empty(1, 1, S, DH, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mlstm_chunkwise(q, q, q, q[..., 0], q[..., 0], 0.0, False)
    return counter.get_total_flops() // 2


OPERATORS: dict[str, Callable[[int, int], int]] = {
    "parallel": parallel_macs,
    "chunkwise": chunkwise_macs,
    "recurrent": recurrent_macs,
}
"""Multiply-adds of one head over S tokens, by backend."""


class Part(NamedTuple):
    """Stores the parameters and MACs of a part of a network for one call; `operator` is the mLSTM's part of `macs`."""

    parameters: int
    macs: int
    operator: int = 0


def count(model: nn.Module, shape: Sequence[int], backend: str = "chunkwise") -> dict[str, Part]:
    """Counts parameters and MACs of each part of `model`, by module name; parts that have neither are left out.

    Args:
        model: a `VisionLSTM`, or a network with one inside that takes a tensor alone. Its state does not change.
        shape: of the input, (B, C, H, W) or (B, C, D, H, W).
        backend: a key of `OPERATORS`, whatever the model's own is.

    Raises:
        ValueError: an unknown backend.
    """
    if backend not in OPERATORS:
        raise ValueError(f"no count for the mLSTM backend {backend!r}; known: {', '.join(OPERATORS)}")
    fake, plain = FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH)  # fused ones go uncounted
    with fake, plain, torch.no_grad(), _blocks_left_out(model) as calls, FlopCounterMode(display=False) as counter:
        first = next(model.parameters())
        model(torch.empty(*shape, dtype=first.dtype, device=first.device))
    # What FlopCounterMode found, by the path of the module; the model itself goes by the name of its class.
    counted = {path.partition(".")[2]: sum(ops.values()) for path, ops in counter.get_flop_counts().items()}
    parts = {}
    for name, module in _parts(model):
        inside = {*module.modules()}
        blocks = [_block_macs(block, tokens, backend) for block, tokens in calls if block in inside]
        operator = sum(operator for _, operator in blocks)
        macs = _flops(counted, name, module) // 2 + sum(weights for weights, _ in blocks) + operator
        part = Part(sum(parameter.numel() for parameter in module.parameters()), macs, operator)
        if any(part):
            parts[name] = part
    return parts


def table_2(backend: str, size: int = 224, dim: int = 192, depth: int = 24) -> dict[str, Part]:
    """Counts the network of each design of `DIRECTIONS`, v1 with 1000 classes, as in table 2 of the paper."""
    options = dict(VARIANTS["vil-tiny"], dim=dim, depth=depth, num_classes=1000)
    nets = {direction: VisionLSTM(**options, direction=direction) for direction in DIRECTIONS}
    return {direction: total(count(net, (1, 3, size, size), backend)) for direction, net in nets.items()}


def total(parts: dict[str, Part]) -> Part:
    """Adds up all parts."""
    return Part(*(sum(numbers) for numbers in zip(*parts.values(), strict=True)))


def _parts(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules on the way from `model` down to the `VisionLSTM` in it, that one taken apart."""
    for name, child in model.named_children():
        if not isinstance(model, VisionLSTM) and any(isinstance(module, VisionLSTM) for module in child.modules()):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _flops(counted: dict[str, int], name: str, module: nn.Module) -> int:
    """Returns the FLOPs of a module and all in it; a container is never called, its modules are."""
    if name in counted:
        return counted[name]
    return sum(_flops(counted, f"{name}.{child}", inner) for child, inner in module.named_children())


@contextmanager
def _blocks_left_out(model: nn.Module) -> Iterator[list[tuple[ViLBlock, tuple[int, ...]]]]:
    """Lets ViL blocks return their input unchanged; yields a list that gets the block and the shape of each call."""
    calls: list[tuple[ViLBlock, tuple[int, ...]]] = []
    blocks = [module for module in model.modules() if isinstance(module, ViLBlock)]

    def replacement(block: ViLBlock) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            calls.append((block, tuple(x.shape)))
            return x

        return forward

    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = replacement(block)  # type: ignore[assignment,method-assign]
    try:
        yield calls
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward  # type: ignore[method-assign]


def _block_macs(block: ViLBlock, shape: tuple[int, ...], backend: str) -> tuple[int, int]:
    """Counts the products with weights, and the operator's, of a block on tokens (B, *grid, C)."""
    layer = block.layer
    B, S, orders = shape[0], torch.Size(shape[1:-1]).numel(), len(layer.orders)
    E = layer.proj_down.in_features
    weights = 0
    for name, parameter in layer.named_parameters():
        if parameter.ndim > 1:
            uses = orders // len(layer.scans) if name.startswith("scans.") else 1
            weights += uses * parameter.numel()
    return B * S * weights, B * orders * NUM_HEADS * OPERATORS[backend](S, E // NUM_HEADS)
