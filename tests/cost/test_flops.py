"""Multiply-adds against formulas written by hand, torch's counter, and the published figures."""

import pytest
import torch
from refusals import raises_one_line
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vil_dense.backbones import VisionLSTM, variant
from vil_dense.cost.flops import OPERATORS, count, table_2, total
from vil_dense.ops import mlstm
from vil_dense.ops.chunkwise import CHUNK

TABLE_2 = {
    "uni": ("1.00", 6_088_360),
    "bi": ("1.42", 6_484_840),
    "bi-shared": ("1.42", 6_088_360),
    "bi-alternating": ("1.00", 6_088_360),
    "quad": ("2.27", 7_277_800),
    "quad-shared": ("2.27", 6_088_360),
    "quad-alternating": ("1.00", 6_088_360),
}
# fvcore's counts of the official models at 224 px, 1000 classes; it adds 5 for each number that a norm puts out.
OFFICIAL = {"vil-tiny": 1_863_726_864, "vil-small": 5_808_345_600, "vil2-tiny": 1_872_840_912}


def small(direction: str = "bi-alternating", **options: object) -> VisionLSTM:
    return VisionLSTM(dim=32, depth=2, patch_size=4, grid=(3, 5), direction=direction, **options)


@pytest.mark.parametrize("direction", ["bi-alternating", "bi-shared", "quad"])
def test_parts_of_a_small_network(direction: str):
    """Tests two pictures of 12 x 20 px, 15 tokens each; width 32, inner width 64, four heads of 16."""
    S, D, E = 15, 32, 64
    orders = {"bi-alternating": 1, "bi-shared": 2, "quad": 4}[direction]
    scan = 9 * E + 3 * 4 * E + 8 * 3 * E  # convolution; q, k and v in blocks of four; gates from q, k and v
    weights = S * (D * 2 * E + orders * scan + E * D)
    operator = orders * 4 * (S * S * 16 + S * S * 16)
    net = small(direction, pooling="bilateral-average", num_classes=7)
    parts = count(net, (2, 3, 12, 20), "parallel")
    assert {name: part.macs for name, part in parts.items() if part.macs} == {
        "patch_embed": 2 * S * 3 * 4 * 4 * D,
        "blocks": 2 * 2 * (weights + operator),
        "head": 2 * 7 * D,
    }
    assert parts["blocks"].operator == 2 * 2 * operator
    assert total(parts).parameters == sum(parameter.numel() for parameter in net.parameters())


def test_any_dtype_and_a_forward_of_ones_own() -> None:
    plain, net = small(), small().bfloat16()
    own = net.blocks[0].forward = lambda x: x
    assert count(net, (1, 3, 12, 20), "chunkwise") == count(plain, (1, 3, 12, 20), "chunkwise")
    assert vars(net.blocks[0])["forward"] is own and "forward" not in vars(net.blocks[1])


@pytest.mark.parametrize("S", [1, 15, 65])
@pytest.mark.parametrize("backend", ["parallel", "recurrent"])
def test_formula_is_what_its_code_multiplies(backend: str, S: int):
    """Compares with torch's counter, which misses the element-wise products that write the recurrence's state."""
    DH = 16
    q = torch.zeros(1, 1, S, DH)
    with FlopCounterMode(display=False) as counter:
        mlstm(q, q, q, q[..., 0], q[..., 0], backend=backend)
    unseen = S * (DH * DH + 2 * DH) if backend == "recurrent" else 0
    assert OPERATORS[backend](S, DH) == counter.get_total_flops() // 2 + unseen


@pytest.mark.parametrize("chunks", [1, 3, 40])
def test_chunkwise_by_hand(chunks: int):
    """Tests the count against q k^T, w v, and of several chunks k^T v, q C, q n; the decays come on top."""
    DH = 96
    by_hand = chunks * (2 * CHUNK * CHUNK * DH + (chunks > 1) * CHUNK * (2 * DH * DH + DH))
    assert by_hand <= OPERATORS["chunkwise"](chunks * CHUNK, DH) < 1.15 * by_hand


def test_chunkwise_grows_with_the_length_and_parallel_with_its_square():
    S = 64 * CHUNK
    growth = {backend: macs(2 * S, 96) / macs(S, 96) for backend, macs in OPERATORS.items()}
    assert growth == pytest.approx(dict(parallel=4, chunkwise=2, recurrent=2), rel=0.02)


def test_table_2_in_the_quadratic_form():
    counted = table_2("parallel")
    uni = counted["uni"].macs
    assert {name: (f"{part.macs / uni:.2f}", part.parameters) for name, part in counted.items()} == TABLE_2


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_counts(name: str):
    net = VisionLSTM(**variant(name), num_classes=1000)
    S, width = 14 * 14, sum(2 * net.dim + net.dim for _ in net.blocks) + net.dim
    macs = total(count(net, (1, 3, 224, 224), "parallel")).macs
    assert macs + 5 * S * width == pytest.approx(OFFICIAL[name], rel=1e-4)


def test_attention_is_counted_too():
    net = VisionLSTM(dim=32, depth=2, patch_size=4, grid=(3, 5), block="attention", num_heads=2)
    S = 15
    block = S * (4 * 32 * 32 + 2 * 4 * 32 * 32) + 2 * S * S * 32
    assert count(net, (1, 3, 12, 20))["blocks"].macs == 2 * block


def test_inside_another_network_and_left_as_it_was():
    net = small()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    whole = nn.Sequential(nn.Sequential(net), nn.Linear(32, 5))
    parts = count(whole, (1, 3, 12, 20))
    assert parts["1"].macs == 15 * 32 * 5
    alone = count(net, (1, 3, 12, 20))
    assert {name.removeprefix("0.0."): part for name, part in parts.items() if name != "1"} == alone
    assert net(torch.zeros(1, 3, 12, 20)).abs().sum() > 0
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert not any("forward" in vars(block) for block in net.blocks)


def test_volumes():
    net = VisionLSTM(dim=32, depth=1, patch_size=2, grid=(2, 3, 4), in_channels=1)
    weights = 32 * 128 + 64 * (27 + 12 + 24) + 64 * 32
    assert count(net, (1, 1, 4, 6, 8), "parallel")["blocks"].macs == 24 * weights + 4 * 2 * 24 * 24 * 16


def test_unknown_backend():
    with raises_one_line(ValueError, "'fast'", "chunkwise"):
        count(small(), (1, 3, 12, 20), "fast")
