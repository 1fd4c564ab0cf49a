"""Tests blocks on any grid, in 2D and 3D: initialisation, order, and the mean of stochastic depth."""

import math
import sys

import pytest
import torch
from refusals import raises_one_line

from vil_dense.layers.fused import FusedViLBlock
from vil_dense.layers.pool import POOLINGS, insert_cls, remove_cls
from vil_dense.layers.residual import DROP_FORMS, Residual
from vil_dense.layers.vil import BlockDiagonalLinear, HeadNorm, ViLBlock, ViLLayer

V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False)
BOTH_FORMS = pytest.mark.parametrize("Block", [ViLBlock, FusedViLBlock], ids=["plain", "fused"])


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Returns the module in float64 with every parameter moved, so that none hides a term at zero."""
    torch.manual_seed(1)
    for parameter in module.double().parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module.eval()


@pytest.mark.parametrize("dim", [16, 48, 64])
def test_block_diagonal_maps_mix_four_channels_of_a_head(dim: int) -> None:
    """Tests equality with a dense matrix whose blocks join channels DH / 4 apart."""
    layer, DH = BlockDiagonalLinear(dim, True, 1.0), dim // 4
    layer.bias.data.normal_()
    dense = torch.zeros(dim, dim)
    for head in range(4):
        for block in range(DH // 4):
            channels = head * DH + block + torch.arange(4) * (DH // 4)
            dense[channels[:, None], channels] = layer.weight.data[:, :, head * (DH // 4) + block].T
    x = torch.randn(3, 5, 7, dim)
    torch.testing.assert_close(layer(x), x @ dense.T + layer.bias)


def test_head_norm_normalises_each_head() -> None:
    norm, h = HeadNorm(16, True), torch.randn(2, 3, 16) * torch.tensor([1, 10, 100, 1000]).repeat_interleave(4)
    y = norm(h).unflatten(-1, (4, 4))
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(2, 3, 4), rtol=0, atol=1e-2)


@BOTH_FORMS
@pytest.mark.parametrize("options", [V1, {}], ids=["v1", "v2"])
@pytest.mark.parametrize("order", ["rows", "rows-reversed", "columns", "columns-reversed"])
@pytest.mark.parametrize("grid", [(3, 5), (1, 7), (7, 1), (1, 1), (9, 8)])
def test_a_volume_one_voxel_deep_equals_the_picture(
    Block: type[ViLBlock], options: dict, order: str, grid: tuple[int, int]
) -> None:
    flat = shaken(Block(16, orders=(order,), **options))
    deep = Block(16, ndim=3, orders=(order,), **options).double().eval()
    state = flat.state_dict()
    kernel = "layer.scans.0.conv.weight"
    if state[kernel].ndim == 4:
        # only the middle slice of a 3 x 3 x 3 kernel meets the volume
        state[kernel] = torch.nn.functional.pad(state[kernel][:, :, None], (0, 0, 0, 0, 1, 1))
    deep.load_state_dict(state)
    x = torch.randn(2, *grid, 16, dtype=torch.float64)
    torch.testing.assert_close(deep(x[:, None])[:, 0], flat(x))


@BOTH_FORMS
def test_columns_are_the_rows_of_the_transposed_grid(Block: type[ViLBlock]) -> None:
    rows = shaken(Block(16, orders=("rows",), **V1))
    columns = Block(16, orders=("columns",), **V1).double().eval()
    columns.load_state_dict(rows.state_dict())
    x = torch.randn(2, 3, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(columns(x.transpose(1, 2)).transpose(1, 2), rows(x))


@BOTH_FORMS
def test_a_shared_scan_counts_once_and_directions_add(Block: type[ViLBlock]) -> None:
    both = shaken(Block.layer_type(16, orders=("rows", "columns"), shared=True))
    assert len(both.scans) == 1
    x = torch.randn(1, 3, 4, 16, dtype=torch.float64)
    halves = (Block.layer_type(16, orders=(order,)).double() for order in ("rows", "columns"))
    expected = -both.proj_down.bias  # which each half adds
    for half in halves:
        half.load_state_dict(both.state_dict())
        expected = expected + half(x)
    torch.testing.assert_close(both(x), expected)


@BOTH_FORMS
@pytest.mark.parametrize("order", ["rows", "columns-reversed"])
@pytest.mark.parametrize("grid", [(5, 7), (9, 15)])  # one chunk, and three of which the last is not full
def test_pictures_of_a_batch_do_not_see_each_other(Block: type[ViLBlock], order: str, grid: tuple[int, int]) -> None:
    block = shaken(Block(16, orders=(order,)))
    x = torch.randn(3, *grid, 16, dtype=torch.float64)
    torch.testing.assert_close(block(x), torch.cat([block(picture[None]) for picture in x]))


def test_of_several_scans_only_the_first_has_a_bias_in_its_norm() -> None:
    first, second = ViLLayer(16, orders=("rows", "columns")).scans
    assert first.outnorm.bias is not None and second.outnorm.bias is None
    assert second.q_proj.bias is not None


@pytest.mark.parametrize(("form", "blocks"), [("original", 1), ("by-depth", 12)])
def test_initialisation(form: str, blocks: int) -> None:
    torch.manual_seed(0)
    dim = 192
    layer = ViLLayer(dim, down_init=form, depth=12)
    scan = layer.scans[0]
    small = math.sqrt(2 / (5 * dim))
    expected = {
        "proj_up": (layer.proj_up.weight, small),
        "proj_down": (layer.proj_down.weight, 2 / (blocks * math.sqrt(dim))),
        "q": (scan.q_proj.weight, small),
        "k": (scan.k_proj.weight, small),
        "v": (scan.v_proj.weight, small),
        "conv": (scan.conv.weight, 1 / 3 / math.sqrt(3)),
    }
    for name, (weight, std) in expected.items():
        assert weight.std().item() == pytest.approx(std, rel=0.05), name
        assert abs(weight.mean().item()) < 0.1 * std, name
    assert scan.conv.weight.abs().max() <= 1 / 3
    for zero in (scan.igate.weight, scan.fgate.weight, layer.proj_up.bias, layer.proj_down.bias, scan.q_proj.bias):
        assert not zero.any()
    assert scan.fgate.bias.tolist() == [3, 4, 5, 6]
    assert 0 < scan.igate.bias.abs().max() < 0.5
    assert torch.equal(scan.skip, torch.ones(2 * dim))
    assert torch.equal(scan.outnorm.weight, torch.ones(2 * dim))


@BOTH_FORMS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_autocast(Block: type[ViLBlock], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = Block(16)
    x = torch.randn(2, 5, 7, 16)
    expected = block(x)
    with torch.autocast("cpu", dtype=dtype):
        autocast = block(x)
    assert autocast.dtype == torch.float32, "the residual stream lost its precision"
    pure = block.to(dtype)(x.to(dtype))
    assert pure.dtype == dtype
    for y in (autocast, pure):
        torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("form", ["bernoulli", "subset"])
def test_stochastic_depth_keeps_the_mean(form: str) -> None:
    torch.manual_seed(0)
    residual = Residual(0.25, form).train()
    x = torch.zeros(8, 3)
    draws = torch.stack([residual(x, lambda x: x + 1) for _ in range(2000)])
    torch.testing.assert_close(draws.mean((0, 2)), torch.ones(8), rtol=0, atol=0.06)
    assert sorted(draws.unique().tolist()) == pytest.approx([0, 4 / 3])
    kept = (draws[:, :, 0] > 0).sum(1)
    assert (kept == 6).all() if form == "subset" else len(kept.unique()) > 3
    assert torch.equal(residual.eval()(x, lambda x: x + 1), torch.ones(8, 3))


@pytest.mark.parametrize("form", DROP_FORMS)
def test_stochastic_depth_takes_an_empty_batch(form: str) -> None:
    assert Residual(0.25, form).train()(torch.zeros(0, 3), lambda x: x + 1).shape == (0, 3)


def test_subset_form_computes_only_what_it_keeps_and_falls_back() -> None:
    seen: list[int] = []

    def branch(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    Residual(0.25, "subset").train()(torch.ones(8, 2), branch)
    Residual(0.05, "subset").train()(torch.ones(2, 2), branch)  # would drop one of two: far from 5 %
    assert seen == [6, 2]
    alone = Residual(0.5, "subset").train()  # would never drop
    assert {alone(torch.zeros(1, 1), lambda x: x + 1).item() for _ in range(60)} == {0.0, 2.0}


def test_pooling() -> None:
    x = torch.arange(5.0).view(1, 5, 1)
    expected = {
        "average": [2], "middle-patch": [2], "first-token": [0], "last-token": [4], "bilateral-average": [2],
        "bilateral-concat": [0, 4], "first-cls": [0], "middle-cls": [2],
    }  # fmt: skip
    assert {name: pool(x)[0].tolist() for name, pool in POOLINGS.items()} == expected


@pytest.mark.parametrize("pooling", ["first-cls", "middle-cls"])
@pytest.mark.parametrize("S", [1, 4, 9])
def test_cls_token_is_found_where_it_was_put(pooling: str, S: int) -> None:
    x, token = torch.randn(2, S, 3), torch.full((1, 1, 3), 7.0)
    longer = insert_cls(x, token, pooling)
    assert torch.equal(POOLINGS[pooling](longer), token[0].expand(2, -1))
    assert torch.equal(remove_cls(longer, pooling), x)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (dict(conv="wide"), ("'wide'", "causal, grid")),
        (dict(conv_kernel=4), ("odd", "4")),
        (dict(down_init="small"), ("'small'",)),
        (dict(orders=("depth",)), ("'depth'", "3", "2")),
        (dict(backend="fast"), ("backend", "'fast'")),
        (dict(inner_dim=24), ("16", "24")),
        (dict(drop_path=1.0), ("[0, 1)", "1.0")),
        (dict(drop_path_form="half"), ("'half'", "bernoulli, subset")),
    ],
)
def test_refuses_in_words(options: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        ViLBlock(16, **options)


def test_a_missing_package_is_noticed_before_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with raises_one_line(ImportError, "triton", "pip install"):
        ViLBlock(16, backend="triton")
