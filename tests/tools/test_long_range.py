"""Tests the study of long range: what each block can see of a legend, what it learns of it, and the tool's files."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import assert_error_line
from run_command import ROOT, run_command

from vil_dense.files import read_json
from vil_dense.layers import SEQUENCE_BLOCKS
from vil_dense.synthetic.legends import CLASSES, IGNORED, make_map

STUDY = runpy.run_path(str(ROOT / "tools/studies/long_range.py"))
CASES, Case = STUDY["CASES"], STUDY["Case"]


def test_blocks_are_those_of_the_package() -> None:
    assert {*STUDY["BLOCKS"]} == {*SEQUENCE_BLOCKS} == {*STUDY["RATES"]}
    assert CASES["2d-large"].tokens == 16 * CASES["2d"].tokens


@pytest.mark.parametrize("block", STUDY["BLOCKS"])
@pytest.mark.parametrize("name", ["2d", "3d"])
def test_only_vil_and_attention_see_the_legend_from_where_classes_are(name: str, block: str) -> None:
    """Shows the same map with the square of another class, on which no pixel without range may depend."""
    case = CASES[name]
    torch.manual_seed(0)
    network = STUDY["build"](block, len(case.size)).double().eval()
    for seed in range(2):
        image, labels = make_map(case.size, np.random.default_rng(seed), distance_px=case.distance_px, noise=0.0)
        other = image.copy()
        other[2][image[2] != 0] = CLASSES[(labels[labels != IGNORED][0] + 1) % len(CLASSES)]
        x = torch.from_numpy(np.stack([image, other])).double()
        first, second = network(x).detach()
        labelled = torch.from_numpy(labels[tuple(slice(None, None, 4) for _ in case.size)] != IGNORED)
        change = (first - second).abs().amax(0)[labelled]
        assert (change.max() > 1e-9) == (block in ("vil", "attention"))


def test_maps_of_training_and_evaluation_are_drawn_by_seed() -> None:
    case = CASES["2d"]
    images, labels = STUDY["draw"](case, 7, 2)
    assert images.shape == (2, 3, 64, 64) and labels.shape == (2, 16, 16)
    assert torch.equal(STUDY["draw"](case, 7, 2)[0], images) and not torch.equal(STUDY["draw"](case, 8, 2)[0], images)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "solves"), [("attention", True), ("vil", True), ("dwconv", False)])
def test_the_gap(block: str, solves: bool) -> None:
    """Trains until the accuracy on new maps is far from the 25 % of guessing, or for 800 steps."""
    case = Case((64, 64), steps=800)
    torch.manual_seed(0)
    found = STUDY["train"](STUDY["build"](block, 2), block, case, minutes=3, enough=0.6)
    assert found["before"] < 0.45
    assert (found["accuracy"] > 0.5) == solves, found


def test_the_tool_writes_tables_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    command = f"studies/long_range --out {tmp_path} --blocks dwconv --minutes 0 --cases"
    assert run_command(f"{command} 2d-large", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, tmp_path / "2d_dwconv.safetensors", "--cases 2d")
    assert run_command(f"{command} 2d", monkeypatch) == 0
    first = (tmp_path / "long_range.json").read_bytes()
    found = read_json(tmp_path / "long_range.json")["runs"]["2d"]["dwconv"]
    assert found["steps"] == 1 and 0 <= found["accuracy"] <= 1
    assert "| 2d | 256 | dwconv | " in (tmp_path / "long_range.md").read_text()
    assert run_command(f"{command} 2d", monkeypatch) == 0
    assert (tmp_path / "long_range.json").read_bytes() == first
