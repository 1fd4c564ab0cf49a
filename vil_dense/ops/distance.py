"""Computes distances to the boundary of a structure, for boundary losses of pictures and volumes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def signed_distance(inside: Tensor, known: Tensor, reach: float, spacing: Sequence[float]) -> Tensor:
    """Computes the signed distance of each place to the boundary, negative inside, over `reach`: (B, *grid) in [-1, 1].

    It is the Euclidean distance to the nearest known place on the other side, exact below `reach` and `reach` beyond,
    or where there is none, as for a structure that an image does not have. The axes are taken one after another, since
    the squares of the distances along them add up.

    Args:
        inside: (B, *grid) bool, the structure.
        known: (B, *grid) bool, the places with a label; the others count neither as inside nor as outside.
        reach: in the unit of `spacing`.
        spacing: distance of neighbours along each axis of the grid.
    """
    inner, outer = inside & known, ~inside & known
    to_inner, to_outer = _distance(inner, reach, spacing), _distance(outer, reach, spacing)
    return torch.where(inside, -to_outer, to_inner) / reach


def boundary_cost(probability: Tensor, inside: Tensor, known: Tensor, reach: float, spacing: Sequence[float]) -> Tensor:
    """Computes probability x signed distance at each known place, 0 elsewhere: (B, *grid) in [-1, 1].

    This is the integrand of the boundary loss of Kervadec et al. (Med. Image Anal. 67:101851, 2021, equation 6), with
    distances of at most `reach`, in units of it.

    Args:
        probability: (B, *grid), of the structure; its gradient is the distance.
        inside, known, reach, spacing: see `signed_distance`.
    """
    with torch.no_grad():
        weight = signed_distance(inside, known, reach, spacing) * known
    return probability * weight.to(probability.dtype)


def _distance(targets: Tensor, reach: float, spacing: Sequence[float]) -> Tensor:
    """Computes the distance to the nearest target, at most `reach`: (B, *grid) float32."""
    square = torch.where(targets, 0.0, reach**2)
    for axis, step in enumerate(spacing, 1):
        before, size = square.clone(), square.shape[axis]
        for offset in range(1, min(size - 1, int(reach / step)) + 1):
            far, near = before.narrow(axis, offset, size - offset), before.narrow(axis, 0, size - offset)
            added = (offset * step) ** 2
            ahead, behind = square.narrow(axis, 0, size - offset), square.narrow(axis, offset, size - offset)
            torch.minimum(ahead, far + added, out=ahead)
            torch.minimum(behind, near + added, out=behind)
    return square.sqrt()
