"""Tests the estimates of memory and time: they are those of the whole step, counted and timed on a smaller one."""

from collections.abc import Callable
from math import prod

import pytest
import torch
from refusals import raises_one_line
from torch import nn

from vil_dense.backbones import VisionLSTM
from vil_dense.cost import step_cost
from vil_dense.cost.memory import HEAP_FACTOR, LiveMemory
from vil_dense.cost.step_cost import activation_bytes, input_channels, probe_size, stand_in_loss, step_seconds
from vil_dense.heap import mapped_from
from vil_dense.medical.networks.nets import NETWORKS

SIZE = (64, 64, 32)
SMALL = {
    "ViLUNet3D": dict(channels=(8, 16), depths=(0, 1)),
    "ViLUNETR3D": dict(channels=(8,), dim=32, depth=4),
    "SegResNet": dict(init_filters=8),
}


def forward(network: nn.Module, batch: int, size: tuple[int, ...]) -> torch.Tensor:
    return network(torch.zeros(batch, 1, *size))


def step(network: nn.Module, batch: int, size: tuple[int, ...]) -> torch.Tensor:
    return stand_in_loss([forward(network, batch, size)])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("backward", [False, True], ids=["predict", "train"])
def test_a_smaller_step_stands_for_the_whole(name: str, backward: bool) -> None:
    """Compares with a count of the whole step with numbers; gradients exist before, as they are not counted."""
    network, run = NETWORKS[name](out_channels=3, **SMALL[name]).train(backward), step if backward else forward
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveMemory() as memory, torch.set_grad_enabled(backward):
        out = run(network, 1, SIZE)
        if backward:
            out.backward()
    assert activation_bytes(network, run, 1, SIZE, backward=backward) == pytest.approx(memory.resident, rel=0.12)


def test_the_model_and_the_random_numbers_stay() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Dropout())
    before, state = {name: x.clone() for name, x in network.state_dict().items()}, torch.get_rng_state()
    activation_bytes(network, step, 2, (16, 16, 16), backward=True)
    step_seconds(network, step, 2, (16, 16, 16), backward=True)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state) and network[0].weight.grad is None


def test_large_blocks_are_returned_and_small_ones_leave_gaps() -> None:
    def made(scale: float) -> float:
        with LiveMemory(scale) as memory:
            torch.empty(1024)
        return memory.resident

    assert made(1.0) == pytest.approx(HEAP_FACTOR * 4096) and made(mapped_from() / 4096) == 4096


def test_compiled_blocks_are_counted_as_eager_ones() -> None:
    network = VisionLSTM(dim=32, depth=2, patch_size=4, grid=(4, 4))

    def run(model: nn.Module, batch: int, size: tuple[int, ...]) -> torch.Tensor:
        return model(torch.zeros(batch, 3, *size)).square().mean()

    expected = activation_bytes(network, run, 1, (32, 32), backward=True)
    assert activation_bytes(network.compile_blocks(), run, 1, (32, 32), backward=True) == expected
    assert any(getattr(module, "compiled", False) for module in network.modules()), "the network itself stays compiled"


def test_a_convolution_holds_a_copy_of_its_largest_tensor() -> None:
    convolution, x = nn.Conv2d(2, 4, 3, padding=1), torch.zeros(1, 2, 8, 8)
    with torch.no_grad(), LiveMemory(mapped_from()) as memory:
        out = convolution(x)
    assert memory.peak == out.nbytes and memory.resident == 2 * out.nbytes


def test_the_channels_of_a_network_without_convolutions_are_not_known() -> None:
    with raises_one_line(ValueError, "Linear"):
        input_channels(nn.Linear(2, 2))


def test_the_size_of_the_smaller_step() -> None:
    assert probe_size((96, 96, 96), 32**3) == (32, 32, 32) and probe_size((40, 56, 40), 10**6) == (40, 56, 40)
    assert probe_size((512, 512, 1), 32**3) == (128, 256, 1), "few slices stay"
    assert probe_size((20, 500, 500), 1) == (16, 16, 16), "no axis becomes shorter than a total stride"


@pytest.mark.parametrize("rate", [1e-6, 1e-3])
def test_time_is_a_constant_and_a_part_of_each_voxel(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a clock that a step moves by 3 s and by `rate` for every voxel: one voxel by one, or far above `LONGEST`."""
    clock = Clock(lambda voxels: 3 + voxels * rate)
    monkeypatch.setattr(step_cost, "_clock", clock)
    found = step_seconds(nn.Linear(1, 1), clock.run, 2, (96, 96, 96), backward=True)
    assert found.of(2, (96, 96, 96)) == pytest.approx(3 + rate * 2 * 96**3)
    assert max(clock.steps) == (96**3 if rate < 1e-4 else 48**2 * 96)


def test_the_whole_size_is_timed_where_it_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a clock that each voxel above 64^3 moves twice as far."""
    clock = Clock(lambda voxels: 1e-6 * (voxels + max(0, voxels - 64**3)))
    monkeypatch.setattr(step_cost, "_clock", clock)
    found = step_seconds(nn.Linear(1, 1), clock.run, 1, (96, 96, 96), backward=True)
    assert found.of(1, (96, 96, 96)) == pytest.approx(1e-6 * (2 * 96**3 - 64**3))


class Clock:
    """Stands in for a clock, which only steps move, by a function of their voxels."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.now, self.steps = seconds, 0.0, []

    def __call__(self, device: torch.device) -> float:
        return self.now

    def run(self, model: nn.Module, batch: int, size: tuple[int, ...]) -> torch.Tensor:
        self.steps.append(batch * prod(size))
        self.now += self.seconds(self.steps[-1])
        return model.weight.sum()
