"""Finds the decode head of a segmentor, of which a cascade has several."""

from collections.abc import Sequence
from typing import Any

from torch import nn


def last_head(decode_head: Any) -> Any:
    """Returns the head that predicts: the last one of a `CascadeEncoderDecoder`, else the only one.

    Args:
        decode_head: of a segmentor or of its config.
    """
    return decode_head[-1] if isinstance(decode_head, nn.ModuleList | Sequence) else decode_head
