"""Orders in which a grid is read as a sequence: pure functions of the grid."""

from dataclasses import dataclass

from torch import Tensor

from vil_dense.errors import refuse_other


@dataclass(frozen=True)
class Order:
    """Holds the fastest axis of a reading, counted from the last one, and whether it starts at the end."""

    fastest_axis: int
    reverse: bool


ORDERS = {
    "rows": Order(-1, False),
    "rows-reversed": Order(-1, True),
    "columns": Order(-2, False),
    "columns-reversed": Order(-2, True),
    "depth": Order(-3, False),
    "depth-reversed": Order(-3, True),
}
"""After the fastest axis come the others, in cyclic order. A (D, H, W) grid is read by `rows` with W fastest, then H,
then D; by `columns` with H fastest, then D, then W; by `depth` with D fastest, then W, then H. Where D = 1 the first
two are those of (H, W)."""


def check_order(order: str, ndim: int) -> None:
    """Raises ValueError if `order` is unknown or needs more than `ndim` spatial axes."""
    refuse_other(order, ORDERS, "order")
    if -ORDERS[order].fastest_axis > ndim:
        raise ValueError(f"order {order!r} needs {-ORDERS[order].fastest_axis} spatial axes, the grid has {ndim}")


def frame_axes(order: str, ndim: int) -> tuple[int, ...]:
    """Returns the spatial axes of a grid from slowest to fastest; (0, 1, ...) for `rows`."""
    fastest = ndim + ORDERS[order].fastest_axis
    return tuple((fastest + 1 + axis) % ndim for axis in range(ndim))


def to_frame(x: Tensor, order: str) -> Tensor:
    """Permutes axes, (B, *grid, C) -> (B, *grid', C), the slowest axis first; reversal is left to `to_sequence`."""
    axes = frame_axes(order, x.ndim - 2)
    return x.permute(0, *(axis + 1 for axis in axes), x.ndim - 1)


def from_frame(x: Tensor, order: str) -> Tensor:
    """Undoes `to_frame`."""
    axes = frame_axes(order, x.ndim - 2)
    back = sorted(range(len(axes)), key=lambda position: axes[position])
    return x.permute(0, *(axis + 1 for axis in back), x.ndim - 1)


def to_sequence(x: Tensor, order: str) -> Tensor:
    """Reads a grid as a sequence, (B, *grid, C) -> (B, S, C), the tokens in `order` (a key of `ORDERS`)."""
    x = to_frame(x, order).flatten(1, -2)
    return x.flip(1) if ORDERS[order].reverse else x


def to_grid(x: Tensor, order: str, grid: tuple[int, ...]) -> Tensor:
    """Lays a sequence out on a grid, (B, S, C) -> (B, *grid, C): the inverse of `to_sequence`."""
    x = x.flip(1) if ORDERS[order].reverse else x
    x = x.unflatten(1, [grid[axis] for axis in frame_axes(order, len(grid))])
    return from_frame(x, order)
