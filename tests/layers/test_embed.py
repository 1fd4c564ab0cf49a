"""Tests position embeddings on another grid against torch's interpolation, whose backward pass has no fixed order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vil_dense.layers.embed import resize_positions


def interpolated(embed: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Resizes as torch does, the last two axes bicubically and the one before them linearly."""
    x = embed.movedim(-1, 1)
    if len(grid) == 1:
        return F.interpolate(x, grid, mode="linear").movedim(1, -1)
    depths = [F.interpolate(part, grid[-2:], mode="bicubic") for part in (x.unbind(2) if len(grid) == 3 else [x])]
    if len(grid) == 2:
        return depths[0].movedim(1, -1)
    rows = F.interpolate(torch.stack(depths, 2).flatten(3), (grid[0], grid[1] * grid[2]), mode="bilinear")
    return rows.unflatten(3, grid[1:]).movedim(1, -1)


@pytest.mark.parametrize(
    ("before", "after"),
    [((7,), (11,)), ((14, 14), (9, 20)), ((6, 5), (6, 9)), ((4, 3, 5), (7, 3, 5)), ((4, 3, 5), (2, 8, 6))],
)
def test_resizing_is_that_of_torch(before: tuple, after: tuple) -> None:
    embed = torch.randn(1, *before, 6, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(1, *after, 6, dtype=torch.float64)
    found, expected = resize_positions(embed, after), interpolated(embed, after)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out, embed, cotangent)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert resize_positions(embed, before) is embed
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(resize_positions(embed.float(), after), expected.float())
    assert resize_positions(embed.bfloat16(), after).dtype == torch.bfloat16
