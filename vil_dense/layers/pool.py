"""Pools a sequence of tokens to one vector by the classification designs of arXiv 2406.04303, table 3."""

from collections.abc import Callable

import torch
from torch import Tensor

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: x.mean(1),
    "middle-patch": lambda x: x[:, x.shape[1] // 2],
    "first-token": lambda x: x[:, 0],
    "last-token": lambda x: x[:, -1],
    "bilateral-average": lambda x: (x[:, 0] + x[:, -1]) / 2,
    "bilateral-concat": lambda x: torch.cat([x[:, 0], x[:, -1]], dim=-1),
    "first-cls": lambda x: x[:, cls_position("first-cls", x.shape[1])],
    "middle-cls": lambda x: x[:, cls_position("middle-cls", x.shape[1])],
}
"""Designs by name: (B, S, C) in row-major order -> (B, C), `bilateral-concat` -> (B, 2C). The `cls` designs read the
token that `insert_cls` put in."""

CLS_POOLINGS = ("first-cls", "middle-cls")


def cls_position(pooling: str, tokens: int) -> int:
    """Returns the place of the CLS token among `tokens` tokens: first, or after the larger half of the others."""
    return 0 if pooling == "first-cls" else tokens // 2


def insert_cls(x: Tensor, cls_token: Tensor, pooling: str) -> Tensor:
    """Inserts the CLS token (1, 1, C): (B, S, C) -> (B, S + 1, C)."""
    position = cls_position(pooling, x.shape[1] + 1)
    cls_token = cls_token.expand(x.shape[0], -1, -1)
    return torch.cat([x[:, :position], cls_token, x[:, position:]], dim=1)


def remove_cls(x: Tensor, pooling: str) -> Tensor:
    """Removes the CLS token: (B, S + 1, C) -> (B, S, C), the inverse of `insert_cls`."""
    position = cls_position(pooling, x.shape[1])
    return torch.cat([x[:, :position], x[:, position + 1 :]], dim=1)
