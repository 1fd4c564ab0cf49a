"""Tests position embeddings on another grid, as torch resizes them and in the form that is deterministic on a GPU."""

import pytest
import torch

from vil_dense.layers.embed import resize_positions


@pytest.mark.parametrize(
    ("before", "after"),
    [((7,), (11,)), ((14, 14), (9, 20)), ((6, 5), (6, 9)), ((4, 3, 5), (7, 3, 5)), ((4, 3, 5), (2, 8, 6))],
)
def test_deterministic_resizing_is_the_same(before: tuple, after: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = torch.randn(1, *before, 6, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(1, *after, 6, dtype=torch.float64)
    results = []
    for deterministic in (False, True):
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda now=deterministic: now)
        out = resize_positions(embed, after)
        results.append((out, *torch.autograd.grad(out, embed, cotangent)))
    torch.testing.assert_close(results[1], results[0])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(resize_positions(embed.float(), after), results[0][0].float())
    assert resize_positions(embed.bfloat16(), after).dtype == torch.bfloat16
