"""Tests curves of groups of runs: means and deviations over the steps that all runs of a group have."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image
from refusals import assert_error_line, raises_one_line
from run_command import run_tool

from vil_dense.mm.engine.hooks.reports import read_scalars


def log(folder: Path, curve: dict[int, float]) -> str:
    (folder / "20250101/vis_data").mkdir(parents=True)
    rows = [json.dumps(dict(step=step, mIoU=value)) for step, value in curve.items()]
    (folder / "20250101/vis_data/scalars.json").write_text("\n".join([json.dumps(dict(step=1, loss=3.0)), *rows]))
    return str(folder)


def test_groups(tmp_path: Path) -> None:
    runs = [log(tmp_path / "a", {10: 1.0, 20: 2.0, 30: 9.0}), log(tmp_path / "b", {10: 3.0, 20: 6.0})]
    alone = log(tmp_path / "c", {10: 0.5})
    groups = ("--group", "ours", *runs, "--group", "control", alone)
    printed = run_tool("analysis/plot_runs", *groups, "--out", tmp_path / "out").stdout
    groups = json.loads((tmp_path / "out/curves.json").read_text())["groups"]
    assert groups["ours"]["steps"] == [10, 20] and groups["ours"]["mean"] == [2.0, 4.0]
    np.testing.assert_allclose(groups["ours"]["deviation"], [2**0.5, 8**0.5])
    assert groups["control"]["deviation"] is None and groups["control"]["runs"] == {alone: [0.5]}
    assert np.asarray(Image.open(tmp_path / "out/curves.png")).std() > 0
    assert "ours: mIoU 4.00 +- 2.83 at step 20, 2 run(s)" in printed


def test_a_value_that_is_not_a_number_is_a_gap(tmp_path: Path) -> None:
    runs = [log(tmp_path / name, {10: value, 20: 2.0}) for name, value in (("a", math.nan), ("b", 1.0))]
    done = run_tool("analysis/plot_runs", "--group", "x", *runs, "--out", tmp_path / "out")
    assert done.returncode == 0 and "mIoU 2.00" in done.stdout and (tmp_path / "out/curves.png").is_file()
    group = json.loads((tmp_path / "out/curves.json").read_text())["groups"]["x"]
    assert group["runs"][runs[0]] == group["mean"] == [None, 2.0] and group["runs"][runs[1]] == [1.0, 2.0]


def test_refused(tmp_path: Path) -> None:
    run = log(tmp_path / "a", {10: 1.0})
    for args, names in (
        (["--group", "x", str(tmp_path / "none")], [tmp_path / "none"]),
        (["--group", "x", run, "--metric", "top1"], [run, "top1"]),
        (["--group", "x"], ["--group", "got x"]),
        (["--group", "x", run, run], [run, "2 times"]),
    ):
        assert_error_line(run_tool("analysis/plot_runs", *args, "--out", tmp_path / "out").stderr, *names)
    assert not (tmp_path / "out").exists()


def test_a_killed_run_may_end_within_a_line(tmp_path: Path) -> None:
    folder = log(tmp_path / "a", {10: 1.0, 20: 2.0})
    file = tmp_path / "a/20250101/vis_data/scalars.json"
    lines = file.read_text()
    file.write_text(lines[:-5])
    assert read_scalars(folder, "mIoU") == {10: 1.0}
    file.write_text(f"{lines[:-5]}\n{lines}\n")
    with raises_one_line(ValueError, "scalars.json", "line 3"):
        read_scalars(folder, "mIoU")


def test_a_run_that_was_moved_aside_is_not_in_the_curve(tmp_path: Path) -> None:
    log(tmp_path / "a/previous_1", {10: 1.0, 20: 2.0})
    assert read_scalars(log(tmp_path / "a", {10: 5.0}), "mIoU") == {10: 5.0}
