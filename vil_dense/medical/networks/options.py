"""Checks the options of volume networks."""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, SupportsFloat

from vil_dense.errors import refuse_unknown
from vil_dense.layers.sequence import SEQUENCE_BLOCKS, sequence_options


def check_network(of: str, spatial_dims: int, block: str, options: Mapping[str, Any], own: Iterable[str]) -> None:
    """Checks the options that every network of this package takes.

    Args:
        of: name of the network.
        options: those that the network hands to its blocks.
        own: names of the other options.

    Raises:
        ValueError: there are not three spatial axes, or the block or an option is unknown.
    """
    if spatial_dims != 3:
        raise ValueError(f"{of} is for volumes, spatial_dims=3, got {spatial_dims!r}; pictures take VisionLSTM")
    if block not in SEQUENCE_BLOCKS:
        raise ValueError(f"unknown block {block!r}; known: {', '.join(SEQUENCE_BLOCKS)}")
    refuse_unknown(options, [*own, *sequence_options(block)], f"{of} with block={block!r}")


def triple(value: Any, name: str) -> tuple[Any, Any, Any]:
    """Returns three numbers, one for each axis; a single number is used for all of them.

    Raises:
        ValueError: it is neither.
    """
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * 3
    if len(values) != 3 or not all(isinstance(x, SupportsFloat) and 0 < float(x) < float("inf") for x in values):
        raise ValueError(f"{name} has three positive numbers, got {value!r}")
    return values


def whole_numbers(values: Any, name: str, least: int) -> tuple[int, ...]:
    """Returns a sequence of whole numbers from `least` on as a tuple.

    Raises:
        ValueError: it is none.
    """
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not found or not all(isinstance(x, Integral) and int(x) >= least for x in found):
        raise ValueError(f"{name} has a whole number from {least} on for each scale, got {values!r}")
    return found
