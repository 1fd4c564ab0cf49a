"""The benchmark, shrunk: what it writes, which contestants it refuses, and that it counts right."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).parents[2] / "tools/benchmark"))

import benchmark
from benchmarks import comparison, measure
from benchmarks.contestants.case import Case, Contestant, LeftOut, deviation
from benchmarks.contestants.networks import outcome
from benchmarks.contestants.operators import floor
from benchmarks.reports import report

from vil_dense.backbones import VisionLSTM
from vil_dense.ops.chunkwise import chunk_shape
from vil_dense.ops.compiled import compiler_problem
from vil_dense.ops.mlstm import BACKENDS

DEIT = "ade20k/deit3-t_upernet_1xb16-160k_ade20k-512x512.py"
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


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


def case(**fields: Any) -> Case:
    fixed = dict(mode="train", variant="vil2-tiny", size=32, batch=1, device=CPU, dtype=torch.float32)
    return Case(**{**fixed, "memory_limit": 2.0**30, "dim": 32, "depth": 2, **fields})


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
        assert [check["deviation"] < 1e-4 for check in result["checks"]] == ([] if name == "floor" else [True])
    assert "| vil2-tiny | 70x1 | 70 | chunkwise |" in (out / "op.md").read_text()
    with Image.open(out / "op.png") as picture:
        picture.load()
        assert picture.size == (1100, 500)
    printed = capsys.readouterr().out
    assert "[2/2] op vil2-tiny 70x1 (70 tokens), about " in printed and "left of timing" in printed


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
    names = ["ours", "ours-windows", "vit"]
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
        network: Callable = lambda: BACKENDS["chunkwise"](x, x, x, gate, gate, 1e-6, False)  # noqa: E731
    else:
        model = VisionLSTM(**one.options)
        network = lambda: model(torch.zeros(1, 3, size, size))  # noqa: E731
    counted = []
    for function in (floor(one).step, network):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function()
        convolutions = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "conv" in str(op))
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
    with pytest.raises(ValueError, match="only one of the two has w"):
        deviation({key: found[key] for key in ("output", "b")}, expected)
    with pytest.raises(ValueError, match=r"output is \(1, 2\), expected \(2,\)"):
        deviation({**expected, "output": torch.ones(1, 2)}, expected)


def test_a_part_without_a_gradient_is_noticed():
    model = VisionLSTM(**case().options)
    whole = outcome(model.train(), case(backward=True))
    model.blocks[1].layer.proj_down.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"only one of the two has blocks.1.layer.proj_down.bias"):
        deviation(outcome(model, case(backward=True)), whole)
    assert all(parameter.grad is None for parameter in model.parameters())


def timed(family: str, seconds: float, mib: float) -> dict[str, Any]:
    spread = dict(median_s=seconds, min_s=seconds, quartiles_s=[seconds, seconds], repeats=1)
    return dict(family=family, checks=[], peak_bytes=round(mib * 2**20), **spread)


ROW = dict(variant="vil-small", size="224x2", tokens=196, batch=2, dim=384, depth=24)


def test_ratios():
    contestants = {
        "ours": timed("ours", 0.4, 10),
        "ours-compiled": timed("ours", 0.1, 5),
        "ours-cp": timed("ours-cp", 0.5, 4),
        "official": timed("official", 0.2, 20),
        "official-compiled": dict(refused="it is wrong"),
        "floor": timed("floor", 0.05, 0),
    }
    assert report.ratios([dict(ROW, contestants=contestants)]).splitlines() == [
        "|  | size x batch | tokens | ours | ms | time / ours | time / official | time / floor "
        "| MiB | memory / ours | memory / official |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| vil-small | 224x2 | 196 | ours-compiled | 100.0 | - | 0.50 (official) | 2.00 (floor) "
        "| 5.0 | - | 0.25 (official) |",
        "| vil-small | 224x2 | 196 | ours-cp | 500.0 | 5.00 (ours-compiled) | 2.50 (official) | 10.00 (floor) "
        "| 4.0 | 0.80 (ours-compiled) | 0.20 (official) |",
    ]


def test_hours_of_an_epoch():
    rows = [dict(ROW, contestants=dict(ours=timed("ours", 0.2, 1), floor=timed("floor", 0.1, 1)))]
    found = dict(mode="train", device="D", rows=rows, arguments=dict(dim=None, depth=None))
    line = report.epochs(found).splitlines()[-1]
    assert line == f"| vil-small | 224x2 | ours {1281167 * 0.1 / 3600:.1f} | 8.7 | 14.0 |"
    shrunk = dict(found, arguments=dict(dim=32, depth=None))
    assert report.epochs(shrunk).endswith("| - | - |")
    assert report.epochs(dict(found, mode="backbone")) == ""


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
    monkeypatch.setattr(report.json, "dumps", raising(OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        run_op(out, "--contestants", "floor", "--debug")
    assert (out / "op.json").read_text() == before


KNOWN = "vil-tiny, vil-tinyplus, vil-small, vil-smallplus, vil-base, vil-large, vil2-tiny, vil2-small, vil2-base"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("op --contestants chunkwize", "unknown contestant 'chunkwize'; known: recurrent, parallel, chunkwise, "),
        ("op --variant vil9", f"unknown variant 'vil9'; known: {KNOWN}"),
        ("op --variant deit3-tiny", f"unknown variant 'deit3-tiny'; known: {KNOWN}"),
        ("op --dtype int8", "unknown dtype 'int8'; known: float32, bfloat16, float16"),
        ("op --device tpu", "unknown device 'tpu'; known: cpu"),
        ("op --sizes 64", "a size is SIDExBATCH, like 224x8; got '64'"),
        ("op --sizes 64x0", "a size is SIDExBATCH, like 224x8; got '64x0'"),
        ("op --repeats 0", "--repeats must be above 0, got 0"),
        ("op --out {file}", "[Errno 17] File exists: '{file}'"),
        ("backbone --direction diagonal", "unknown direction 'diagonal'; known: uni, bi, "),
        ("backbone --official nowhere", "--official: there is no nowhere/vision_lstm"),
        ("train --vim nowhere", "--vim: there is no nowhere/vim"),
        ("train --contestants official-compiled", "contestant 'official-compiled' needs --official"),
        ("infer --config none.py", "--config: there is no none.py"),
        (f"infer --config configs/{DEIT}", f"--config: {{root}}/configs/{DEIT} has"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(command: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    names = dict(file=tmp_path / "file", root=ROOT)
    names["file"].touch()
    argv = command.replace("configs/", "{root}/configs/").format(**names).split()
    assert ended(argv if "--out" in argv else [*argv, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith(f"error: {sentence.format(**names)}") and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device"),
        (RuntimeError("no more\nmemory"), 2, "error: RuntimeError: no more memory (the traceback: --debug)"),
    ],
    ids=["Ctrl-C", "disk", "ours"],
)
def test_stopped_in_one_sentence(
    error: BaseException,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    def fail(*args):
        raise error

    monkeypatch.setattr(comparison, "contest", fail)
    argv = ["op", "--sizes", "16x1", "--out", str(tmp_path)]
    assert ended(argv) == code and capsys.readouterr().err.splitlines()[-1] == said
    with pytest.raises(type(error)):
        benchmark.main([*argv, "--debug"])
