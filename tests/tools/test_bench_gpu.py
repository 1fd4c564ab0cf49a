"""Tests the measurement on a GPU, run dry: its parts and report, and how it treats time, errors and missing parts."""

import argparse
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import bench_gpu
import benchmark
import pytest
import torch
from benchmark_cases import case
from benchmarks import learn
from benchmarks.contestants import layers
from benchmarks.contestants.table import contestants
from benchmarks.measure import admit
from refusals import assert_error_line

from vil_dense.layers import FusedViLLayer
from vil_dense.ops.mlstm import BACKENDS


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.set_float32_matmul_precision(products)


def ended(argv: list[str]) -> int:
    """Returns the exit code of the command."""
    try:
        return bench_gpu.main(argv)
    except SystemExit as end:
        return end.code


def dry(tmp_path: Path, *options: str) -> tuple[int, dict]:
    """Runs the command dry; returns its exit code and what it writes."""
    code = ended(["--dry-run", "--out", str(tmp_path), *options])
    return code, json.loads((tmp_path / "bench_gpu.json").read_text())


@pytest.mark.slow
def test_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def in_this_process(command: list[str], folder: Path) -> Iterator[SimpleNamespace]:
        code = benchmark.main([*command[1:], "--out", str(folder)])
        yield SimpleNamespace(wait=lambda seconds: code)

    monkeypatch.setattr(bench_gpu, "started", in_this_process)
    code, found = dry(tmp_path)
    assert code == 0 and list(found) == list(bench_gpu.SHARES)
    notes = {name: found[name]["note"] for name in found if found[name]["note"]}
    assert set(notes) == {"warm-up", "tests"} and all(note.startswith("left out: ") for note in notes.values())
    for name in ("kernels", "layer"):
        assert len(found[name]["runs"]) == 9
        for row in (row for run in found[name]["runs"] for row in run["rows"]):
            assert row["contestants"]["triton"]["left_out"] == "its kernels need a GPU"
            assert len(row["contestants"]["chunkwise"]["checks"]) == 2
    (run,) = found["learn"]["runs"]
    assert run["training"]["steps"] == 2 and 0 <= run["training"]["miou"] <= 100
    page = (tmp_path / "bench_gpu.md").read_text()
    for words in ("| vil2-base, ours | training step: time / ViT |", "mIoU **", "ours-triton is left out: its kernels"):
        assert words in page


def test_command(tmp_path: Path) -> None:
    code, found = dry(tmp_path, "--parts", "operator", "tests")
    assert code == 0 and list(found) == ["operator", "tests"]
    assert found["operator"]["note"] == "" and "floor" in found["operator"]["runs"][0]["rows"][0]["contestants"]


def test_real_commands_are_accepted() -> None:
    args = argparse.Namespace(official="CLONE", dry_run=False)
    commands = [command for part in bench_gpu.plan(args).values() for command in part.values()]
    ours = [benchmark.parse([*command[1:], "--out", "OUT"]) for command in commands if command[0] == "benchmark.py"]
    assert len(ours) == len(commands) - 1 and {one.dtype for one in ours} == {"bfloat16", "float16", "float32"}
    networks = [one for one in ours if one.mode in ("train", "backbone")]
    assert all(one.official == "CLONE" for one in networks) and not any("--device" in command for command in commands)


def test_a_part_beyond_its_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "GRACE", 0)
    start = time.monotonic()
    code, found = dry(tmp_path, "--minutes", "0.01", "--parts", "learn", "operator")
    assert code == 0 and time.monotonic() - start < 30
    assert found["learn"]["note"] == "it was cut off"
    assert found["operator"]["note"] in ("it was cut off", "left out: no time was left")


def test_what_a_part_has_started_is_stopped(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        bench_gpu.started(["-c", "import time; time.sleep(60)"], tmp_path) as process,
    ):
        assert process.poll() is None
        raise KeyboardInterrupt
    assert process.poll() == -signal.SIGKILL


def test_a_part_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "plan", lambda *_: dict(operator={"": ["-c", "print('illegal address'); exit(3)"]}))
    code, found = dry(tmp_path, "--parts", "operator")
    assert code == 1 and found["operator"]["note"].startswith("failed: ")
    assert "exit code 3" in found["operator"]["note"] and found["operator"]["note"].endswith(": illegal address")


def test_a_part_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_gpu.NEEDED, "learn", ("no_such_package",))
    code, found = dry(tmp_path, "--parts", "learn")
    assert code == 0 and found["learn"]["note"] == "left out: the package no_such_package is missing"


def test_the_training_avoids_wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "find_spec", lambda name: True)
    args = argparse.Namespace(official=None, dry_run=False)
    chosen = [bench_gpu.plan(args, wrong)["learn"][""][3] for wrong in (False, True)]
    assert chosen == ["triton", "chunkwise"]
    rows = [dict(contestants=dict(triton=dict(refused="it deviates"), chunkwise={}))]
    assert bench_gpu.refused([dict(rows=rows)], "triton") and not bench_gpu.refused([dict(rows=rows)], "chunkwise")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_wrong_direction_is_noticed(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    right, one = BACKENDS["recurrent"], case(mode="op", size=7, batch=2, backward=True)
    monkeypatch.setitem(BACKENDS, "chunkwise", lambda *arguments: right(*arguments[:-1], reverse))
    _, result = admit(contestants("op")["chunkwise"], one)
    assert result["refused"].endswith(", reversed") is not reverse


def test_a_wrong_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(mode="layer", size=80, backward=True)
    assert admit(contestants("layer")["chunkwise"], one)[0]
    forward = FusedViLLayer.forward
    monkeypatch.setattr(layers.FusedViLLayer, "forward", lambda self, x: 1.01 * forward(self, x))
    assert "refused" in admit(contestants("layer")["chunkwise"], one)[1]


def test_score_counts_right() -> None:
    labels = torch.tensor([[[0, 0, 1, 255]]])

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 3).movedim(-1, 1).float()

    found = learn.score(Model(), torch.zeros(1, 3, 1, 4), labels, torch.float32, ("a", "b", "c"))
    assert found["iou"] == {"a": 50, "b": 50} and found["miou"] == 50


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ("GPU", "--dry-run")),
        (["--minutes", "0"], ("--minutes", "0.0")),
        (["--official", "nowhere"], ("--official", "nowhere/vision_lstm")),
    ],
)
def test_refused_in_one_line(
    options: list[str],
    names: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ended([*options, "--out", str(tmp_path / "out")]) == 2
    assert_error_line(capsys.readouterr().err, *names)
    assert not (tmp_path / "out").exists()
