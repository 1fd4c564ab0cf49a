"""Puts the inner channels of our weights into the published order, written out by hand."""

import torch
from torch import Tensor

HALVES = ("proj_up.weight", "proj_up.bias")
THIRDS = ("igate.weight", "fgate.weight")


def neighbours(E: int) -> Tensor:
    """Returns the place in our order of each channel of the published one: of 4 b + j in a head, b + j DH / 4."""
    DH = E // 4
    return torch.tensor(
        [head * DH + block + j * (DH // 4) for head in range(4) for block in range(DH // 4) for j in range(4)]
    )


def in_published_order(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: _published(key, value) for key, value in state.items()}


def _published(key: str, value: Tensor) -> Tensor:
    if ".layer." not in key or key.endswith(("proj_down.bias", "igate.bias", "fgate.bias")):
        return value
    if key.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
        return value.permute(2, 1, 0)
    if key.endswith(HALVES):
        return torch.cat([half[neighbours(len(half))] for half in value.chunk(2)])
    if key.endswith(THIRDS):
        return torch.cat([part[:, neighbours(part.shape[1])] for part in value.chunk(3, 1)], 1)
    if key.endswith("proj_down.weight"):
        return value[:, neighbours(value.shape[1])]
    return value[neighbours(len(value))]
