"""Checks and times ViL on one GPU: python tools/benchmark/bench_gpu.py --out DIR [--official CLONE] [--minutes 8]

Parts, in order of worth: the mLSTM and the fused layer against float64; a warm-up that compiles; ViL-T beside the
official code and a ViT; a training of a minute; ViL-S and ViL-B; the mLSTM alone beside NX-AI's kernels; two blocks;
the tests of the kernels. Each part consists of commands of benchmark.py, has its share of the time, and leaves its
results in DIR/parts; all of them are in bench_gpu.json and bench_gpu.md. A part or contestant whose packages are
missing is left out and named. The exit code is 1 where a result was wrong or a part failed.

--dry-run runs all parts at toy sizes on the CPU, without Triton's kernels.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # vil_dense need not be installed
from vil_dense.command_line import plain_parser
from vil_dense.errors import exit_on_error
from vil_dense.files import read_json, save_json, write_whole

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("vil2-tiny", "vil2-small", "vil2-base")
DTYPES = ("bfloat16", "float16", "float32")
SIZES = ("224x64", "1024x4", "512x16", "2048x1")
LENGTHS = ("196x64", "1024x16", "4096x4", "16384x1")
NETWORKS = ("ours-triton", "ours-triton-compiled", "ours-compiled", "official-compiled", "vit", "vit-compiled")
BLOCKS = ("ours-triton", "ours-triton-compiled", "vit", "vit-compiled")
KERNELS = ("triton", "chunkwise")
OPERATORS = ("triton", "chunkwise-compiled", "mlstm_kernels", "floor")
TESTS = ("tests/ops/test_triton.py", "tests/ops/test_gpu_*.py", "tests/layers/test_fused_triton.py")
NEEDED = {"learn": ("PIL", "numpy"), "tests": ("pytest", "triton")}
"""Packages without which a part is left out."""
SHARES = {"kernels": 70, "layer": 70, "warm-up": 90, "tiny-train": 50, "tiny-forward": 40, "learn": 70}
SHARES |= {"train": 60, "forward": 40, "operator": 30, "blocks-train": 20, "blocks-forward": 20, "tests": 30}
"""Each part's share of the time; what one leaves goes to those after it."""
GRACE = 20
"""Seconds that are kept for the report."""
Commands = dict[str, list[str]]


def plan(args: argparse.Namespace, kernels_wrong: bool = False) -> dict[str, Commands]:
    """Returns the commands of each part by name; those of one part run side by side."""

    def compare(
        mode: str, variants: Sequence[str], sizes: Sequence[str], names: Sequence[str], *options: str
    ) -> list[str]:
        if not args.official:
            names = [name for name in names if not name.startswith("official")]
        elif mode in ("train", "backbone"):
            options = ("--official", args.official, *options)
        if args.dry_run:  # compilers take minutes on a CPU
            names = list(dict.fromkeys(name.removesuffix("-compiled") for name in names))
            sizes = ["70x2"] if mode == "op" else ["80x2"]
            options = (*options, "--device", "cpu", "--dim", "32", "--depth", "2", "--repeats", "2")
        dtype = [] if "--dtype" in options else ["--dtype", "bfloat16"]
        chosen = ["--variant", *variants, "--sizes", *sizes, "--contestants", *names]
        return ["benchmark.py", mode, *chosen, *dtype, "--patience", "2", "--repeats", "10", *options]

    tiny, larger = VARIANTS[:1], VARIANTS[1:]
    compiled = [name for name in NETWORKS if name.endswith("-compiled")]
    two, once = ("--depth", "2"), ("--repeats", "1")
    learn = ["--steps", "2", "--device", "cpu"] if args.dry_run else ["--seconds", "50"]
    backend = "chunkwise" if kernels_wrong or args.dry_run or not find_spec("triton") else "triton"
    learn = ["benchmark.py", "learn", "--backend", backend, "--dtype", "bfloat16", *learn]
    files = [str(path) for pattern in TESTS for path in sorted(ROOT.glob(pattern))]
    tests = ["-m", "pytest", "-q", "--color=no", "-o", "addopts=--import-mode=importlib", "-m", "triton and not slow"]
    both = dict(train="train", forward="backbone")
    return {
        "kernels": {
            f"{variant}-{dtype}": compare(
                "op", [variant], ["65x2", "599x2"], KERNELS, "--backward", "--dtype", dtype, *once
            )
            for variant in VARIANTS
            for dtype in DTYPES
        },
        "layer": {
            f"{variant}-{dtype}": compare(
                "layer", [variant, variant.replace("2", "")], ["144x2", "304x2"], KERNELS, "--dtype", dtype, *once
            )
            for variant in VARIANTS
            for dtype in DTYPES
        },
        "warm-up": {
            f"{variant}-{name}": compare(mode, [variant], SIZES, compiled, *once)
            for variant in VARIANTS
            for name, mode in both.items()
        },
        **{f"tiny-{name}": {"": compare(mode, tiny, SIZES, NETWORKS)} for name, mode in both.items()},
        "learn": {"": learn},
        **{name: {"": compare(mode, larger, SIZES, NETWORKS)} for name, mode in both.items()},
        "operator": {"": compare("op", tiny, LENGTHS, OPERATORS, "--backward")},
        **{f"blocks-{name}": {"": compare(mode, VARIANTS, SIZES[:2], BLOCKS, *two)} for name, mode in both.items()},
        "tests": {"": [*tests, *files]},
    }


def run_part(out: Path, commands: Commands, end: float) -> str:
    """Runs the commands of a part side by side until `end`; returns what went wrong."""
    out.mkdir(parents=True, exist_ok=True)
    notes = []
    with ExitStack() as stack:
        running = {name: stack.enter_context(started(command, out / name)) for name, command in commands.items()}
        for name, process in running.items():
            try:
                code = process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                notes.append(f"{name or 'it'} was cut off")
                continue
            if code:
                log = out / name / "output.log"
                notes.append(f"failed: {name} ended with exit code {code}, see {log}: {last_line(log)}")
    return "; ".join(notes)


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts Python with its output and results in `folder`; kills it at the end, with the compilers it has started."""
    folder.mkdir(exist_ok=True)
    if command[0] == "benchmark.py":
        command = [str(ROOT / "tools/benchmark/benchmark.py"), *command[1:], "--out", str(folder)]
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with (folder / "output.log").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    """Returns the last line of a log, shortened."""
    return next((line[:300] for line in reversed(log.read_text().splitlines()) if line.strip()), "")


def results(out: Path, name: str) -> list[dict[str, Any]]:
    """Returns what the commands of a part have written so far."""
    return [read_json(path) for path in sorted((out / "parts" / name).rglob("*.json"))]


def refused(runs: Sequence[dict[str, Any]], contestant: str) -> bool:
    """Returns whether a contestant was refused in one of the runs."""
    return any("refused" in row["contestants"].get(contestant, {}) for run in runs for row in run["rows"])


def left_out(name: str, dry: bool) -> str:
    """Returns why a part cannot run here, or an empty string."""
    missing = [package for package in NEEDED.get(name, ()) if find_spec(package) is None]
    if missing:
        return f"left out: the package {missing[0]} is missing"
    return "left out: it needs a GPU" if dry and name in ("warm-up", "tests") else ""


def run_all(args: argparse.Namespace) -> int:
    """Runs the parts one after another and reports after each; returns the exit code."""
    from benchmarks.report import gpu_page

    out, end = Path(args.out).resolve(), time.monotonic() + 60 * args.minutes - GRACE
    notes: dict[str, tuple[float, str]] = {}
    names = [name for name in SHARES if name in (args.parts or SHARES)]
    for old in (out / "parts").rglob("*.json"):
        old.unlink()
    for index, name in enumerate(names):
        start = time.monotonic()
        share = (end - start) * SHARES[name] / sum(SHARES[later] for later in names[index:])
        note = "left out: no time was left" if share <= 0 else left_out(name, args.dry_run)
        if not note:
            print(f"== {name}: {share:.0f} s of {end - start:.0f} s", flush=True)
            wrong = refused(results(out, "kernels"), "triton")
            note = run_part(out / "parts" / name, plan(args, wrong)[name], start + share)
        if name == "tests" and (log := out / "parts/tests/output.log").exists():
            note = "; ".join(filter(None, [note, last_line(log)]))
        notes[name] = (time.monotonic() - start, note)
        runs = {name: results(out, name) for name in notes}
        content = {name: dict(seconds=notes[name][0], note=notes[name][1], runs=runs[name]) for name in notes}
        save_json(out / "bench_gpu.json", content)
        write_whole(out / "bench_gpu.md", partial(Path.write_text, data=gpu_page(content), encoding="utf-8"))
    print((out / "bench_gpu.md").read_text(encoding="utf-8"), flush=True)
    return int(any("failed" in note for _, note in notes.values()))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("--out", default="work_dirs/bench_gpu", metavar="DIR")
    parser.add_argument("--official", metavar="CLONE", help="clone of NX-AI/vision-lstm; it needs einops")
    parser.add_argument("--minutes", type=float, default=8.0, help="time of all parts together")
    parser.add_argument("--parts", nargs="+", choices=SHARES, help="default: all")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)

    import torch

    with exit_on_error(args.debug):
        if not 0 < args.minutes < math.inf:
            raise ValueError(f"--minutes must be above 0, got {args.minutes}")
        if args.official and not (Path(args.official) / "vision_lstm").exists():
            raise ValueError(f"--official: there is no {Path(args.official) / 'vision_lstm'}")
        if not args.dry_run and not torch.cuda.is_available():
            raise ValueError("there is no GPU here; --dry-run runs all parts at toy sizes on the CPU")
        args.official = args.official and str(Path(args.official).resolve())
        return run_all(args)


if __name__ == "__main__":
    sys.exit(main())
