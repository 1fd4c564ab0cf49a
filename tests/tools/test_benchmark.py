"""Tests the benchmark, shrunk: what it writes, which contestants it refuses, and that it counts right."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import benchmark
import pytest
import torch
from benchmark_cases import case, timed
from benchmarks import comparison, measure, report
from benchmarks.contestants.case import Case, Contestant, LeftOut
from PIL import Image
from refusals import assert_error_line, assert_one_line

from vil_dense.ops.compiled import compiler_problem
from vil_dense.ops.mlstm import BACKENDS

ROOT = Path(__file__).parents[2]
DEIT = "ade20k/deit3-t_upernet_1xb16-160k_ade20k-512x512.py"


def ended(argv: list[str]) -> int:
    """Returns the exit code of the command."""
    try:
        return benchmark.main(argv)
    except SystemExit as end:
        return end.code


def run(mode: str, out: Path, *options: object) -> int:
    shared = ["--dim", 32, "--repeats", 2, "--threads", 1, "--device", "cpu", "--out", out]
    return ended([mode, *map(str, shared), *map(str, options)])


def results(out: Path, mode: str, index: int = 0) -> dict[str, Any]:
    return json.loads((out / f"{mode}.json").read_text())["rows"][index]["contestants"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


OP = ("op", "--sizes", "70x2", "--contestants", "recurrent", "parallel", "chunkwise", "floor")


def run_op(out: Path, *options: object) -> int:
    return run(OP[0], out, *OP[1:], *options)


def test_files_of_the_operator(out: Path, capsys: pytest.CaptureFixture):
    assert run("op", out, *OP[3:], "--sizes", "20x2", "70x1", "--backward") == 0
    assert sorted(path.name for path in out.iterdir()) == ["op.json", "op.md", "op.png"]
    found = json.loads((out / "op.json").read_text())
    assert [(row["size"], row["tokens"], row["batch"]) for row in found["rows"]] == [("20x2", 20, 2), ("70x1", 70, 1)]
    assert found["threads"] == 1 and found["dtype"] == "float32" and found["versions"]["torch"] == torch.__version__
    for name, result in found["rows"][1]["contestants"].items():
        assert 0 < result["min_s"] <= result["median_s"] and result["repeats"] == 2
        assert [check["deviation"] < 1e-4 for check in result["checks"]] == ([] if name == "floor" else [True, True])
    assert "| vil2-tiny | 70x1 | chunkwise |" in (out / "op.md").read_text()
    with Image.open(out / "op.png") as picture:
        picture.load()
        assert picture.size == (1100, 500)
    printed = capsys.readouterr().out
    assert "[2/2] op vil2-tiny 70x1 (70 tokens), about " in printed


@pytest.mark.parametrize(
    ("mode", "dtype", "variant"), [("backbone", "bfloat16", "vil2-tiny"), ("train", "float32", "vil-tiny")]
)
def test_networks(mode: str, dtype: str, variant: str, out: Path):
    names = ["ours", "ours-quad-alternating", "vit", "floor", *(["ours-cp", "ours-kept"] if mode == "train" else [])]
    options = ["--variant", variant, "--depth", 2, "--dtype", dtype, "--direction", "quad-alternating"]
    assert run(mode, out, *options, "--sizes", "32x2", "--contestants", *names) == 0
    found = results(out, mode)
    assert {name: result["family"] for name, result in found.items()} == {name: name for name in names}
    assert all(result["checks"] for name, result in found.items() if name != "floor")
    assert f"- dtype: {dtype}" in (out / f"{mode}.md").read_text()


@pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
def test_segmentors(out: Path):
    pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")
    names = ["ours", "vit"]
    assert run("infer", out, "--depth", 4, "--sizes", "64x1", "--contestants", *names) == 0
    found = results(out, "infer")
    assert list(found) == names and all("median_s" in result for result in found.values())


@pytest.mark.filterwarnings("ignore:You are using an old version of VisionLSTM:UserWarning")
def test_official(out: Path):
    clone = os.environ.get("VIL_DENSE_OFFICIAL")
    if not clone:
        pytest.skip("set VIL_DENSE_OFFICIAL to a clone of NX-AI/vision-lstm to compare with the official code")
    for variant in ("vil2-tiny", "vil-tiny"):
        options = ["--variant", variant, "--official", clone, "--depth", 2, "--sizes", "64x1"]
        assert run("train", out, *options, "--contestants", "official") == 0
        assert results(out, "train")["official"]["checks"][0]["deviation"] < 1e-4


@pytest.mark.slow
def test_compiled(out: Path):
    if problem := compiler_problem("cpu"):
        pytest.skip(f"nothing can be compiled here ({problem})")
    names = ["ours-compiled", "vit-compiled"]
    assert run("backbone", out, "--depth", 2, "--sizes", "32x1", "--contestants", *names) == 0
    assert all("median_s" in result for result in results(out, "backbone").values())


def wrong(function: Callable) -> Callable:
    return lambda *arguments: 1.001 * function(*arguments)


def test_a_wrong_contestant_is_refused_and_not_timed(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BACKENDS, "parallel", wrong(BACKENDS["parallel"]))
    assert run_op(out) == 1
    found = results(out, "op")
    assert found["parallel"]["refused"] == (
        "it deviates by 1.0e-03 of the largest value, tolerance 1e-04, held against: recurrent in float64, 70 tokens"
    )
    assert "median_s" not in found["parallel"] and "median_s" in found["chunkwise"]
    assert "- vil2-tiny 70x2: parallel is refused: it deviates" in (out / "op.md").read_text()


def test_nan_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch):
    right = BACKENDS["parallel"]
    monkeypatch.setitem(BACKENDS, "parallel", lambda *arguments: torch.nan * right(*arguments))
    assert run_op(out) == 1
    assert results(out, "op")["parallel"]["refused"].startswith("it deviates by nan")


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    yield
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.set_float32_matmul_precision(products)


@pytest.mark.parametrize(("dtype", "tf32"), [("float32", False), ("bfloat16", True)])
def test_float32_is_no_tf32(dtype: str, tf32: bool, out: Path, tf32_allowed: None):
    """Tests that float32 excludes TF32, which torch allows in convolutions by default."""
    run("op", out, "--sizes", "20x1", "--contestants", "floor", "--dtype", dtype)
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is tf32
    assert json.loads((out / "op.json").read_text())["tf32"] == dict(convolutions=tf32, products=tf32)
    assert f"- tf32: {{'convolutions': {tf32}, 'products': {tf32}}}\n" in (out / "op.md").read_text()


def raising(error: Exception) -> Callable:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "word", "sentence"),
    [
        (torch.OutOfMemoryError("no  room"), "left_out", "it ran out of memory (no room)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "left_out", "it ran out of memory (Default"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "left_out", "it ran out of memory (CUDA error: CUB"),
        (torch._dynamo.exc.Unsupported("loops"), "left_out", "it could not be compiled (Unsupported: loops"),
        (LeftOut("no kernels"), "left_out", "no kernels"),
        (KeyError("a"), "refused", "it failed with KeyError: 'a'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_others_go_on(error: Exception, word: str, sentence: str, out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BACKENDS, "parallel", raising(error))
    assert run_op(out) == (1 if word == "refused" else 0)
    found = results(out, "op")
    assert list(found["parallel"]) == [word] and found["parallel"][word].startswith(sentence)
    assert "median_s" in found["chunkwise"]


def test_who_fails_while_being_timed():
    calls: list[str] = []

    def tires() -> None:
        calls.append("tires")
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no room")

    ready = {"tires": Contestant("a", tires), "lasts": Contestant("b", lambda: calls and None)}
    found = measure.contest(case(), {name: lambda _, name=name: ready[name] for name in ready}, 3, 10.0)
    assert found["tires"]["left_out"] == "it ran out of memory (no room)" and "median_s" not in found["tires"]
    assert found["lasts"]["repeats"] == 3 and "peak_bytes" in found["lasts"]
    assert list(report.best(found)) == ["b"]


def test_a_run_that_is_stopped_leaves_what_it_has(out: Path, monkeypatch: pytest.MonkeyPatch):
    def contest(one: Case, *_: object) -> dict[str, Any]:
        if one.size == 70:
            raise KeyboardInterrupt
        return dict(chunkwise=timed("ours-chunkwise", 0.1, 1))

    monkeypatch.setattr(comparison, "contest", contest)
    assert run("op", out, "--sizes", "20x1", "70x1") == 130
    assert [row["size"] for row in json.loads((out / "op.json").read_text())["rows"]] == ["20x1"]
    assert sorted(path.name for path in out.iterdir()) == ["op.json", "op.md", "op.png"]


def test_a_report_that_cannot_be_written_leaves_the_last_one(out: Path, monkeypatch: pytest.MonkeyPatch):
    run_op(out, "--contestants", "floor")
    before = (out / "op.json").read_text()
    monkeypatch.setattr(report, "save_json", raising(OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        run_op(out, "--contestants", "floor", "--debug")
    assert (out / "op.json").read_text() == before


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("op --contestants chunkwize", ("'chunkwize'", "recurrent, parallel, chunkwise")),
        ("op --variant vil9", ("'vil9'", "vil-tiny", "vil2-base")),
        ("op --variant deit3-tiny", ("'deit3-tiny'", "vil-tiny", "vil2-base")),
        ("op --dtype int8", ("'int8'", "float32, bfloat16, float16")),
        ("op --device tpu", ("'tpu'", "cpu")),
        ("op --sizes 64", ("SIDExBATCH", "'64'")),
        ("op --sizes 64x0", ("SIDExBATCH", "'64x0'")),
        ("op --repeats 0", ("--repeats", "got 0")),
        ("op --out {file}", ("{file}",)),
        ("backbone --direction diagonal", ("'diagonal'", "uni, bi, ")),
        ("backbone --official nowhere", ("--official", "nowhere/vision_lstm")),
        ("train --contestants official-compiled", ("'official-compiled'", "--official")),
        ("infer --config none.py", ("--config", "none.py")),
        (f"infer --config configs/{DEIT}", ("--config", f"{{root}}/configs/{DEIT}")),
    ],
)  # fmt: skip
def test_refused_in_one_line(command: str, names: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture):
    paths = dict(file=tmp_path / "file", root=ROOT)
    paths["file"].touch()
    argv = command.replace("configs/", "{root}/configs/").format(**paths).split()
    assert ended(argv if "--out" in argv else [*argv, "--out", str(tmp_path / "out")]) == 2
    assert_error_line(capsys.readouterr().err, *(name.format(**paths) for name in names))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "names"),
    [
        (KeyboardInterrupt(), 130, ("Ctrl-C",)),
        (OSError(28, "No space left on device"), 2, ("error: ", "No space left on device")),
        (RuntimeError("no more\nmemory"), 2, ("error: ", "RuntimeError: no more memory", "--debug")),
    ],
    ids=["Ctrl-C", "disk", "ours"],
)
def test_stopped_in_one_line(
    error: BaseException,
    code: int,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    def fail(*args):
        raise error

    monkeypatch.setattr(comparison, "contest", fail)
    argv = ["op", "--sizes", "16x1", "--out", str(tmp_path)]
    assert ended(argv) == code
    assert_one_line(capsys.readouterr().err.splitlines()[-1], *names)
    with pytest.raises(type(error)):
        benchmark.main([*argv, "--debug"])
