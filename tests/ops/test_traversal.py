"""Tests that every order is a bijection, is undone, and reads a small grid as written here."""

import pytest
import torch
from refusals import raises_one_line

from vil_dense.ops import ORDERS, check_order, to_grid, to_sequence

# Reading of a (2, 3) grid numbered 0..5 by rows, and of a (2, 2, 3) grid numbered 0..11.
READ_2D = {"rows": [0, 1, 2, 3, 4, 5], "columns": [0, 3, 1, 4, 2, 5]}
READ_3D = {
    "rows": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    "columns": [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11],
    "depth": [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11],
}


def read(order: str, *grid: int) -> list[int]:
    return to_sequence(torch.arange(torch.Size(grid).numel()).view(1, *grid, 1), order).flatten().tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_reading(order: str) -> None:
    forward = order.removesuffix("-reversed")
    step = -1 if order != forward else 1
    if forward in READ_2D:
        assert read(order, 2, 3) == READ_2D[forward][::step]
    assert read(order, 2, 2, 3) == READ_3D[forward][::step]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grid", [(3, 5), (1, 7), (4, 4), (2, 3, 5), (5, 1, 2)])
def test_to_grid_undoes_to_sequence(order: str, grid: tuple[int, ...]) -> None:
    if order.startswith("depth") and len(grid) == 2:
        with raises_one_line(ValueError, "3", "2"):
            check_order(order, 2)
        return
    x = torch.randn(2, *grid, 3)
    assert sorted(read(order, *grid)) == list(range(x[0, ..., 0].numel()))
    assert torch.equal(to_grid(to_sequence(x, order), order, grid), x)


@pytest.mark.parametrize("order", READ_2D)
def test_a_volume_one_voxel_deep_reads_as_its_picture(order: str) -> None:
    assert read(order, 1, 3, 5) == read(order, 3, 5)


def test_unknown_order_is_refused() -> None:
    with raises_one_line(ValueError, "'spiral'", "rows-reversed"):
        check_order("spiral", 2)
