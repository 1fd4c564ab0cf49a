"""Tests what the benchmark measures and reports: memory, floors, deviations, ratios."""

from functools import partial

import pytest
import torch
from benchmark_cases import CPU, case, timed
from benchmarks import measure, report
from benchmarks.contestants.case import Contestant, deviation
from benchmarks.contestants.networks import outcome
from benchmarks.contestants.operators import floor
from refusals import raises_one_line
from torch.utils.flop_counter import FlopCounterMode

from vil_dense.backbones import VisionLSTM
from vil_dense.ops.chunkwise import chunk_shape
from vil_dense.ops.mlstm import BACKENDS


def test_slow_contestants_get_fewer_rounds():
    turns: list[str] = []
    ready = {name: Contestant(name, lambda name=name: turns.append(name)) for name in "ab"}
    times = measure.take_turns(ready, 5, 10.0, CPU)
    assert turns == ["a", "b"] * 7 and [len(times[name]) for name in "ab"] == [5, 5]
    turns.clear()
    assert [len(found) for found in measure.take_turns(ready, 5, 0.0, CPU).values()] == [3, 3] and len(turns) == 8


def test_peak_memory_is_of_what_lives_at_one_time():
    kept = torch.zeros(1000)

    def step() -> None:
        for length in (500, 2000, 1000):
            first = torch.zeros(length)
            second = torch.zeros(length)
            del first, second
        kept.add_(1)

    assert measure.peak_memory(step, CPU) == 2 * 4 * 2000


@pytest.mark.parametrize(("size", "mode"), [(1024, "op"), (400, "backbone"), (416, "train")])
def test_the_floor_is_the_products_of_our_forward(size: int, mode: str, monkeypatch: pytest.MonkeyPatch):
    """Compares both, less convolutions, products with a vector, those of weights alone, and the q k v maps, which
    are products in eager mode only."""
    # The counter's hooks on all modules would ask for the plain form.
    monkeypatch.setattr("vil_dense.layers.fused._has_any_global_hook", lambda: False)
    one = case(mode=mode, size=size, dim=64)
    if mode == "op":
        x, gate = torch.zeros(1, 4, size, one.head_dim), torch.zeros(1, 4, size)
        network = partial(BACKENDS["chunkwise"], x, x, x, gate, gate, 1e-6, False)
    else:
        model = VisionLSTM(**one.options)
        network = partial(model, torch.zeros(1, 3, size, size))
    counted = []
    for function in (floor(one).step, network):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function()
        convolutions = sum(n for op, n in counter.get_flop_counts()["Global"].items() if str(op) == "aten.convolution")
        counted.append(counter.get_total_flops() - convolutions)
    N, L = chunk_shape(one.tokens)
    heads = one.batch * 4 * (1 if mode == "op" else one.options["depth"])
    with_n = 2 * heads * N * L * one.head_dim * (N > 1)
    channels = 0 if mode == "op" else 2 * heads * one.tokens * one.head_dim
    maps, convolution = 3 * channels * one.head_dim, 9 * channels
    assert 0.995 < counted[0] / (counted[1] - with_n - maps - convolution) <= 1


def test_the_floor_of_training_is_three_times_that_of_the_forward():
    counted = []
    for backward in (False, True):
        step = floor(case(backward=backward)).step
        with FlopCounterMode(display=False) as counter:
            step()
        counted.append(counter.get_total_flops())
    assert counted[1] == 3 * counted[0]


def test_deviation():
    expected = {"output": torch.tensor([1.0, -4.0]), "w": torch.tensor([100.0]), "b": torch.tensor([1e-6])}
    found = {**expected, "output": torch.tensor([1.0, -3.0]), "b": torch.tensor([2e-6])}
    assert deviation(found, expected) == 0.25
    assert deviation({**expected, "b": torch.tensor([0.5])}, expected) == pytest.approx(0.5, abs=1e-4)
    assert deviation({**expected, "w": torch.tensor([torch.nan])}, expected) != 0
    with raises_one_line(ValueError, " has w"):
        deviation({key: found[key] for key in ("output", "b")}, expected)
    with raises_one_line(ValueError, "(1, 2)", "(2,)"):
        deviation({**expected, "output": torch.ones(1, 2)}, expected)


def test_a_part_without_a_gradient_is_noticed():
    model = VisionLSTM(**case().options)
    whole = outcome(model.train(), case(backward=True))
    model.blocks[1].layer.proj_down.bias.requires_grad_(False)
    with raises_one_line(ValueError, "blocks.1.layer.proj_down.bias"):
        deviation(outcome(model, case(backward=True)), whole)
    assert all(parameter.grad is None for parameter in model.parameters())


ROW = dict(variant="vil-small", size="224x2", tokens=196, batch=2, dim=384, depth=24)


def test_ratios():
    contestants = {
        "ours-triton": timed("ours-triton", 0.1, 20),
        "ours": timed("ours", 0.3, 10),
        "ours-compiled": timed("ours", 0.2, 10),
        "official": dict(refused="it is wrong"),
        "official-compiled": timed("official", 0.4, 40),
    }
    rows = [dict(ROW, contestants=contestants)]
    rows.append(dict(ROW, size="512x16", contestants={"ours-triton": timed("ours-triton", 0.3, 20)}))
    assert report.ratios(rows, "train").splitlines() == [
        "|  |  | 224 x 2 | 512 x 16 |",
        "| --- | --- | --- | --- |",
        "| vil-small, ours-triton | training step: ms | 100.0 | 300.0 |",
        "| vil-small, ours-triton | training step: time / official | 0.25 | - |",
        "| vil-small, ours-triton | training step: memory / official | 0.50 | - |",
        "| vil-small, ours-triton | training step: time / ours | 0.50 | - |",
        "| vil-small, ours-triton | training step: memory / ours | 2.00 | - |",
        "| vil-small, ours | training step: ms | 200.0 | - |",
        "| vil-small, ours | training step: time / official | 0.50 | - |",
        "| vil-small, ours | training step: memory / official | 0.25 | - |",
    ]


def test_hours_of_an_epoch():
    rows = [dict(ROW, contestants=dict(ours=timed("ours", 0.2, 1), floor=timed("floor", 0.1, 1)))]
    found = dict(mode="train", device="D", rows=rows, arguments=dict(dim=None, depth=None))
    line = report.epochs(found).splitlines()[-1]
    assert line == f"| vil-small | 224x2 | ours {1281167 * 0.1 / 3600:.1f} | 8.7 |"
    shrunk = dict(found, arguments=dict(dim=32, depth=None))
    assert report.epochs(shrunk).endswith("| - |")
    assert report.epochs(dict(found, mode="backbone")) == ""
