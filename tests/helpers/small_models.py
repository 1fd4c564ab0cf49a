"""Builds small models of both versions in 2D and 3D, writes their block out as equations, and compares."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.backbones import VisionLSTM, variant
from vil_dense.ops import ORDERS, mlstm, to_grid, to_sequence

MODELS: dict[str, dict[str, Any]] = {
    "v1": dict(variant("vil-tiny"), grid=(4, 4)),
    "v2": dict(variant("vil2-tiny"), grid=(4, 4)),
    "v1-3d": dict(variant("vil-tiny"), grid=(2, 3, 4)),
    "v2-3d": dict(variant("vil2-tiny"), grid=(2, 3, 4)),
}
"""Options of `VisionLSTM` by name."""

PATCH = 4
NUM_HEADS = 4


def build(name: str = "v2", *, dtype: torch.dtype = torch.float32, **options: Any) -> VisionLSTM:
    """Makes a network of 32 channels and two blocks, or as `options` say; the same weights at each call.

    Every parameter is moved away from its initial value: gates whose weights are 0 would hide what they read.
    """
    torch.manual_seed(0)
    small = dict(dim=32, depth=2, patch_size=PATCH, pooling=None)
    model = VisionLSTM(**{**MODELS[name], **small, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.to(dtype)


def picture(name: str = "v2", batch: int = 2, grid: tuple[int, ...] | None = None, **options: Any) -> Tensor:
    """Draws a batch of pictures or volumes of `grid` tokens, by default one token off the stored grid."""
    grid = grid or tuple(length + 1 for length in MODELS[name]["grid"])
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, *(PATCH * length for length in grid), generator=generator, dtype=torch.float32).to(
        **options
    )


def random_like(y: Tensor) -> Tensor:
    """Returns fixed numbers without order, a cotangent of `y`, by no random operation, which transforms refuse."""
    return torch.arange(1.0, y.numel() + 1, dtype=torch.float64).square().sin().view(y.shape).to(y)


def gradients(model: nn.Module, *inputs: Tensor, of: Callable[..., Tensor] | None = None) -> dict[str, Tensor]:
    """Returns the gradients of a fixed projection of the output, by parameter name, after a pass of `of` or `model`."""
    model.zero_grad()
    y = (model if of is None else of)(*inputs)
    (y * random_like(y)).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Asserts that each tensor is equal to within `tolerance` of its own largest entry."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, tolerance, name)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-4, name: str = "output") -> None:
    """Asserts equality to within `tolerance` of the largest entry of `expected`."""
    bound = tolerance * expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(found, expected, rtol=0, atol=bound, msg=lambda text: f"{name}: {text}")


def cell_of(layer: nn.Module) -> nn.Module:
    """Returns the module that holds the parameters of a layer's traversal."""
    return next(module for module in layer.modules() if hasattr(module, "q_proj"))


def tokens(x: Tensor) -> Tensor:
    """Sorts rows of channels, so that the layout does not matter: (..., C), or heads (B, NH, S, DH), to (N, C)."""
    rows = x.detach().flatten(0, -2)
    return rows[rows[:, 0].argsort()]


def block_equations(block: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Computes a ViL block of one traversal from its parameters alone, on a grid (B, *grid, C).

    Returns:
        the output, and input and output of each module by its last name, channels last.
    """
    layer = block.layer
    cell, order = cell_of(layer), layer.orders[0]
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, read: Tensor, written: Tensor) -> Tensor:
        seen[name] = read, written
        return written

    def linear(name: str, module: nn.Module, read: Tensor) -> Tensor:
        return note(name, read, F.linear(read, module.weight, module.bias))

    grid = tuple(x.shape[1:-1])
    normed = note("norm", x, F.layer_norm(x, x.shape[-1:], block.norm.weight, block.norm.bias, 1e-5))
    u, z = linear("proj_up", layer.proj_up, normed).chunk(2, -1)
    c = note("conv", u, _convolve(cell.conv, u, order))
    u, z, c = (to_sequence(part, order) for part in (u, z, F.silu(c)))
    q, k, v = (
        note(name, part, _block_diagonal(getattr(cell, name), part))
        for name, part in (("q_proj", c), ("k_proj", c), ("v_proj", u))
    )
    qkv = torch.cat([q, k, v], -1)
    gates = (linear(name, getattr(cell, name), qkv).mT for name in ("igate", "fgate"))
    heads = (part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in (q, k, v))
    h = mlstm(*heads, *gates, backend="recurrent").transpose(1, 2)
    normed = F.layer_norm(h, h.shape[-1:], eps=1e-5).flatten(2) * cell.outnorm.weight
    h = note("outnorm", h.flatten(2), normed if cell.outnorm.bias is None else normed + cell.outnorm.bias)
    y = linear("proj_down", layer.proj_down, (h + cell.skip * c) * F.silu(z))
    return x + to_grid(y, order, grid), seen


def network_equations(model: VisionLSTM, x: Tensor) -> Tensor:
    """Computes the network from `block_equations`; its embeddings and last norms are called as modules."""
    grid = model.pos_embed(model.patch_embed(x))
    for block in model.blocks:
        grid, _ = block_equations(block, grid)
    return model.head_norm(model.post_norm(grid))


def _convolve(conv: nn.Module, u: Tensor, order: str) -> Tensor:
    weight, bias, dim = conv.weight, conv.bias, u.shape[-1]
    if weight.ndim == 3:  # along the sequence
        sequence = F.pad(to_sequence(u, order).mT, (weight.shape[-1] - 1, 0))
        return to_grid(F.conv1d(sequence, weight, bias, groups=dim).mT, order, tuple(u.shape[1:-1]))
    function = F.conv2d if weight.ndim == 4 else F.conv3d
    return function(u.movedim(-1, 1), weight, bias, padding=weight.shape[-1] // 2, groups=dim).movedim(1, -1)


def _block_diagonal(module: nn.Module, x: Tensor) -> Tensor:
    """Mixes channels DH / 4 apart: brought side by side, mixed in blocks, and brought back."""
    side_by_side = x.unflatten(-1, (NUM_HEADS, 4, -1)).transpose(-1, -2).flatten(-3)
    y = side_by_side @ torch.block_diag(*module.weight.permute(2, 1, 0)).mT
    y = y.unflatten(-1, (NUM_HEADS, -1, 4)).transpose(-1, -2).flatten(-3)
    return y if module.bias is None else y + module.bias


def of_kind(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Returns sub-modules by full name whose last name is one of `names`."""
    return {name: module for name, module in model.named_modules() if name.rpartition(".")[2] in set(names)}


def is_reversed(layer: nn.Module) -> bool:
    """Returns whether the layer's first traversal starts at the last token."""
    return ORDERS[layer.orders[0]].reverse
