"""Tests what a plan makes of spacing and size, and that patch, batch and network follow from a target."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import pytest
from refusals import raises_one_line

from vil_dense.cost.memory import GIB
from vil_dense.cost.step_cost import Seconds
from vil_dense.medical.data import plan_sizes
from vil_dense.medical.data.plan_sizes import (
    Cost,
    Fit,
    Target,
    choose_batch,
    choose_network,
    choose_patch,
    fit,
    step_cost,
)
from vil_dense.medical.networks.nets import build_network

PLAN: dict[str, Any] = dict(channels=["x"], labels=dict(a=0, b=1), spacing_mm=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("median", [(35, 50, 36), (512, 512, 90), (40, 40, 6), (3, 200, 200)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0)])
def test_patch_is_in_the_budget_and_whole_strides(median: tuple, spacing: tuple) -> None:
    patch = choose_patch(median, spacing, 64**3)
    assert np.prod(patch) <= 64**3
    network = choose_network(patch, spacing)
    net = build_network(
        dict(
            channels=["x"],
            labels=dict(a=0, b=1),
            spacing_mm=spacing,
            patch_vox=patch,
            network=dict(network, block="identity"),
        ),
        "ViLUNet3D",
        channels=[8] * len(network["channels"]),
    )
    assert sum(network["depths"]) >= 4
    assert all(n % np.prod([s[axis] for s in net.strides]) == 0 for axis, n in enumerate(patch))
    assert all(n >= min(length, 4) for n, length in zip(patch, median, strict=True))


@pytest.mark.parametrize("budget", [1, 16**3])
def test_patch_of_few_thick_slices(budget: int) -> None:
    """Tests slices that are the longest axis in mm and cannot become fewer."""
    patch = choose_patch((49, 54, 9), (0.5, 0.5, 7.5), budget)
    assert patch[2] == 4 and (np.prod(patch) <= budget or patch == [4, 4, 4])


def test_hippocampus_gets_nnunets_patch() -> None:
    """Compares with its plan for the Decathlon's Task04: patches of 40 x 56 x 40, nine of them."""
    patch = choose_patch((35, 50, 36), (1, 1, 1), 96**3)
    assert patch == [40, 56, 40] and choose_network(patch, (1, 1, 1))["depths"] == [0, 0, 4, 2]
    assert choose_batch(patch, 96**3, 35 * 50 * 36 * 260) >= 9


@pytest.mark.parametrize(("slices", "kernel"), [(1, 1), (2, 1), (5, 3)])
def test_few_slices_are_all_in_the_patch_and_not_strided(slices: int, kernel: int) -> None:
    patch = choose_patch((200, 200, slices), (1.0, 1.0, 1.0), 64**3)
    assert patch[2] == slices and min(patch[:2]) >= 160
    net = build_network(dict(PLAN, patch_vox=patch), "ViLUNet3D", channels=(8, 8, 8), depths=(0, 0, 1))
    assert [stride[2] for stride in net.strides] == [1, 1, 1] and net.strides[1][:2] == (2, 2)
    assert net.encoder.levels[0].conv1.conv.kernel_size == (3, 3, kernel)


def linear_cost(plan: Mapping[str, Any], timed: bool) -> Cost:
    """Stands in for `step_cost`: 1 KiB for each voxel and 1/32 of the width, and a microsecond for the same."""
    width = plan["network"]["channels"][0]
    each = 1024 * width * prod(plan["patch_vox"])
    seconds = Seconds(0.0, 1e-6 * width / 32)
    return Cost(None, list(plan["patch_vox"]), width, 0, float(each), seconds if timed else None)


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_sizes, "step_cost", linear_cost)


def fitted(target: Target, **given: Any) -> Fit:
    return fit({**PLAN, **given}, (160, 160, 160), 20 * 160**3, target)


@pytest.mark.usefixtures("linear")
@pytest.mark.parametrize("gib", [0.5, 2.0, 8.0, 24.0])
def test_the_step_fits_the_memory_and_nearly_fills_it(gib: float) -> None:
    found = fitted(Target(gpu_memory_gib=gib))
    patch, batch, width = (found.values["patch_vox"], found.values["batch_size"], found.cost.width)
    assert found.cost.gib(batch) <= gib and batch >= 2
    assert found.cost.gib(batch) > 0.4 * gib, "a next patch is less than half as large"
    assert (width < 32) == (gib * GIB < 2 * 32 * 40**3 * 1024), "narrow only where a wide network has too small a patch"
    assert f"fits {gib:g} GiB" in found.reason and "exceeds the memory" in found.reason
    assert found.values["network"] == choose_network(patch, PLAN["spacing_mm"], found.values["network"]["channels"])


@pytest.mark.usefixtures("linear")
def test_the_time_limits_as_well() -> None:
    by_time = fitted(Target(gpu_memory_gib=100, cpu_hours=0.2, steps=2000))
    assert 2000 * 1e-6 * by_time.values["batch_size"] * prod(by_time.values["patch_vox"]) / 3600 <= 0.2
    assert "fits 100 GiB and 0.2 CPU hours" in by_time.reason and "exceeds the time" in by_time.reason
    fewer_steps = fitted(Target(gpu_memory_gib=100, cpu_hours=0.2, steps=500))
    assert prod(fewer_steps.values["patch_vox"]) > 2 * prod(by_time.values["patch_vox"])


@pytest.mark.usefixtures("linear")
def test_given_values_stay() -> None:
    given = dict(patch_vox=[64, 64, 32], batch_size=3, network=dict(channels=(16, 32), depths=(0, 1)))
    values = fitted(Target(gpu_memory_gib=8), **given).values
    assert values["patch_vox"] == [64, 64, 32] and values["batch_size"] == 3
    assert values["network"]["channels"] == (16, 32) and values["network"]["depths"] == (0, 1)
    with raises_one_line(ValueError, "3 x 64 x 64 x 32", "6.00 GiB", "0.5 GiB"):
        fitted(Target(gpu_memory_gib=0.5), **{**given, "network": dict(channels=(16, 32))})


@pytest.mark.usefixtures("linear")
def test_a_target_that_nothing_fits() -> None:
    with raises_one_line(ValueError, "0.01 CPU hours", "smallest"):
        fitted(Target(cpu_hours=0.01, steps=10**8))


@pytest.mark.parametrize("number", [0, -8, 1e6, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["gpu_memory_gib", "cpu_hours"])
def test_numbers_that_cannot_be_are_refused(option: str, number: float) -> None:
    with raises_one_line(
        ValueError, f"got {number:g}", "--gpu-memory" if option == "gpu_memory_gib" else "--cpu-hours"
    ):
        Target(**{option: number})


def test_memory_and_time_grow_with_the_batch() -> None:
    plan = dict(PLAN, patch_vox=[16, 16, 16], network=dict(channels=(8, 8), depths=(0, 1), deep_supervision=1))
    cost = step_cost(plan, timed=True)
    weights = 16 * sum(parameter.numel() for parameter in cost.network.parameters())
    assert cost.permanent == weights and cost.gib(4) == pytest.approx((weights + 4 * cost.each) / GIB)
    hours = cost.hours(2, 1000)
    assert hours is not None and 0 < hours < 1 and cost.hours(4, 1000) >= hours
    assert step_cost(plan, timed=False).hours(2, 1000) is None
