"""The measurement on a GPU, run dry: its parts and report, and how it treats time, errors and missing parts."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_gpu
import pytest
import torch
from benchmarks import checks, learn, speed
from benchmarks.contestants.case import LeftOut
from benchmarks.reports import gpu_report, summary
from benchmarks.session import Session, in_parallel
from refusals import assert_error_line, raises_one_line

from vil_dense.ops.mlstm import BACKENDS

NETWORKS = ("vil2-tiny", "vil2-small", "vil2-base")


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path, torch.device("cpu"), dry=True, deadline=time.monotonic() + 600)


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


def part(session: Session, steps: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs a part with these steps, and returns what it leaves on the disk."""
    monkeypatch.setitem(bench_gpu.PARTS, "card", (1, steps))
    bench_gpu.run_part("card", session)
    return json.loads((session.out / "parts/card.json").read_text())


@pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
def test_all_parts(session: Session) -> None:
    for name in bench_gpu.PARTS:
        bench_gpu.run_part(name, session)
    gpu_report.plots(session.out, list(bench_gpu.PARTS))
    found = json.loads((session.out / "bench_gpu.json").read_text())
    assert list(found) == list(bench_gpu.PARTS)
    notes = {name: found[name]["note"] for name in found if found[name]["note"]}
    assert set(notes) == {"warm-up", "tests"} and all(note.startswith("left out: ") for note in notes.values())
    assert not any(map(bench_gpu.is_wrong, found.values()))
    for name in ("kernels", "layer"):
        assert all("left_out" in row for row in found[name]["rows"] if row["backend"] == "triton")
        assert all(row["deviation"] <= row["tolerance"] for row in found[name]["rows"] if row["backend"] != "triton")
    (training,) = found["learn"]["rows"]
    assert training["steps"] == 2 and 0 <= training["miou"] <= 100
    page = (session.out / "bench_gpu.md").read_text()
    for words in (
        "| chunkwise | bfloat16 | v1, C 32 | 2 |",
        "| vil2-base, ours | training step: time / ViT |",
        "mIoU **",
    ):
        assert words in page
    assert "ours-triton is left out: its kernels need a GPU" in page
    pictures = {path.name for path in session.out.glob("*.png")}
    assert pictures == {"backbone.png", "train.png", "op.png", "training.png"}


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert ended(["--dry-run", "--out", str(tmp_path), "--minutes", "2", "--parts", "card", "tests"]) == 0
    assert "| tests | 0 | left out: " in capfd.readouterr().out
    assert list(json.loads((tmp_path / "bench_gpu.json").read_text())) == ["card", "tests"]


def test_a_part_beyond_its_time_is_killed_and_leaves_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gpu, "GRACE", 0)
    start = time.monotonic()
    assert ended(["--dry-run", "--out", str(tmp_path), "--minutes", "0.01", "--parts", "kernels", "operator"]) == 0
    assert time.monotonic() - start < 30
    notes = {name: part["note"] for name, part in json.loads((tmp_path / "bench_gpu.json").read_text()).items()}
    assert notes["kernels"] == "it was cut off before it began"
    assert notes["operator"] in ("it was cut off before it began", "left out: no time was left")


@pytest.mark.parametrize(
    ("error", "note", "wrong"),
    [
        (LeftOut("no clone"), "left out: no clone", False),
        (ImportError("No module named 'mmseg'"), "left out: No module named 'mmseg'", False),
        (RuntimeError("illegal\naddress"), "failed: RuntimeError: illegal address", True),
    ],
)
def test_a_part_that_ends_early(
    error: Exception, note: str, wrong: bool, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(session: Session) -> Iterator[dict[str, Any]]:
        yield dict(device="D")
        raise error

    found = part(session, steps, monkeypatch)
    assert found["rows"] == [dict(device="D")] and found["note"] == note and bench_gpu.is_wrong(found) is wrong
    assert note in (session.out / "bench_gpu.md").read_text()


def test_a_part_stops_when_its_time_is_over(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Session(session.out, session.device, dry=True, deadline=time.monotonic() - 1)
    found = part(late, lambda _: (dict(device=n) for n in range(5)), monkeypatch)
    assert found["rows"] == [dict(device=0)] and found["note"] == "its time was over after 1 results"
    row = speed.measure(late, "op", ("floor",), size=70, batch=2, dim=32)
    assert row["contestants"]["floor"]["left_out"] == "the time of this part was over"


def test_a_wrong_kernel_is_refused_and_not_timed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    right = BACKENDS["recurrent"]
    monkeypatch.setitem(BACKENDS, "chunkwise", lambda *arguments: 1.001 * right(*arguments))
    rows = checks.check_operator(session, "chunkwise", torch.float32, 8)
    assert all(row["refused"].startswith("it deviates by 1.") for row in rows)
    rows = [dict(row, backend="triton", dtype="bfloat16") for row in rows]
    (session.out / "parts").mkdir()
    (session.out / "parts/kernels.json").write_text(json.dumps(dict(rows=rows)))
    with raises_one_line(LeftOut, "DH 8", "S 7"):
        speed.find(session, "train", "ours-triton-compiled")(
            session.case("train", size=32, batch=1, dtype=torch.float32)
        )


@pytest.mark.parametrize("reverse", [False, True])
def test_a_wrong_direction_is_noticed(reverse: bool, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    right = BACKENDS["recurrent"]
    monkeypatch.setitem(BACKENDS, "chunkwise", lambda *arguments: right(*arguments[:-1], reverse))
    rows = checks.check_operator(session, "chunkwise", torch.float32, 8)
    assert [row["reverse"] for row in rows if "refused" in row] == 2 * [not reverse]


def test_a_wrong_layer_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = checks.FusedViLLayer.forward
    monkeypatch.setattr(checks.FusedViLLayer, "forward", lambda self, x: 1.01 * forward(self, x))
    assert all("refused" in row for row in checks.check_layers(session, "chunkwise", torch.float32, 32))


def test_without_mmseg_a_small_head_is_trained(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmengine.registry", None)
    (row,) = learn.learn(session)
    assert row["network"] == "small head" and len(row["loss"]) == 2


def test_score_counts_right() -> None:
    labels = torch.tensor([[[0, 0, 1, 255]]])

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 3).movedim(-1, 1).float()

    found = learn.score(Model(), torch.zeros(1, 3, 1, 4), labels, ("a", "b", "c"))
    assert found["iou"] == {"a": 50, "b": 50} and found["miou"] == 50


def test_jobs_side_by_side(tmp_path: Path) -> None:
    session = Session(tmp_path, torch.device("cpu"), dry=False, deadline=time.monotonic() + 100)
    pairs = in_parallel(session, checks.check_operator, [("chunkwise", torch.float32, 4)])
    assert [row["size"] for row in pairs] == ["S 65", "S 65", "S 601", "S 601"]
    late = Session(tmp_path, torch.device("cpu"), dry=False, deadline=time.monotonic() - 1)
    assert list(in_parallel(late, checks.check_operator, [("chunkwise", torch.float32, 384)])) == []


def test_summary() -> None:
    def timed(family: str, seconds: float, size: int) -> dict[str, Any]:
        return dict(family=family, median_s=seconds, peak_bytes=size)

    contestants = {
        "ours-triton": timed("ours-triton", 0.1, 20),
        "ours-compiled": timed("ours", 0.2, 10),
        "official-compiled": timed("official", 0.4, 40),
    }
    rows = [dict(variant="vil2-tiny", size="224x64", contestants=contestants)]
    rows.append(dict(rows[0], size="512x16", contestants=dict(contestants, official=dict(left_out="memory"))))
    rows[1]["contestants"] = {"ours-triton": timed("ours-triton", 0.3, 20)}
    lines = summary.summary(rows, "train").splitlines()
    assert lines[0] == "|  |  | 224 x 64 | 512 x 16 |"
    assert "| vil2-tiny, ours-triton | training step: ms | 100.0 | 300.0 |" in lines
    assert "| vil2-tiny, ours-triton | training step: time / official | 0.25 | - |" in lines
    assert "| vil2-tiny, ours-triton | training step: memory / chunkwise | 2.00 | - |" in lines
    assert "| vil2-tiny, ours | training step: time / official | 0.50 | - |" in lines


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
