"""Checks and times ViL on one GPU: python tools/benchmark/bench_gpu.py --out DIR [--official CLONE] [--minutes 8]

Parts, in order of worth: the card; the kernels and the fused layer against float64; a warm-up that compiles; ViL-T
beside the official code and a ViT; a training of a minute; ViL-S; ViL-B; the mLSTM alone beside NX-AI's kernels; the
tests of the kernels. Each part is a process of its own with its share of the time, and what it has found is on the disk
after each step. A part or contestant whose packages are missing is left out and named. Results: bench_gpu.json,
bench_gpu.md and plots in DIR. The exit code is 1 where a result was wrong or a part failed.

--dry-run runs all parts at toy sizes on the CPU, without Triton's kernels.
"""

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # vil_dense need not be installed
from benchmarks.machine import PACKAGES, ROOT, commit, installed, processor

from vil_dense.errors import exit_on_error
from vil_dense.files import save_json

if TYPE_CHECKING:
    from benchmarks.session import Session

Result = dict[str, Any]
TESTS = ("tests/ops/test_triton.py", "tests/ops/test_gpu_*.py", "tests/layers/test_fused_triton.py")
GRACE = 20
"""Seconds that a part may take beyond its share, to finish its step, before it is killed."""


def card(session: "Session") -> Iterator[Result]:
    """Describes device, driver and versions."""
    import torch

    facts: Result = dict(device=processor(), device_type=session.device.type, threads=torch.get_num_threads())
    if session.device.type == "cuda":
        properties = torch.cuda.get_device_properties(session.device)
        facts |= dict(device=properties.name, memory_gib=round(properties.total_memory / 2**30, 1))
        facts |= dict(compute_capability=f"{properties.major}.{properties.minor}", driver=driver())
    clones = dict(vil_dense=ROOT, **(dict(official=Path(session.official)) if session.official else {}))
    facts |= dict(versions=dict(python=platform.python_version(), cuda=torch.version.cuda, **installed(PACKAGES)))
    yield facts | dict(commits={name: commit(folder) for name, folder in clones.items()})


def driver() -> str:
    """Returns the version of the driver, as nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def tests(session: "Session") -> Iterator[Result]:
    """Runs the tests of the kernels, as far as they get in what is left of the time."""
    from benchmarks.contestants.case import LeftOut

    for package in ("pytest", "triton"):
        if find_spec(package) is None:
            raise LeftOut(f"the package {package} is missing")
    if session.dry:
        raise LeftOut("they need a GPU")
    files = [str(path) for pattern in TESTS for path in sorted(ROOT.glob(pattern))]
    options = ["-o", "addopts=--import-mode=importlib", "-m", "triton and not slow"]  # one process for the GPU
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", *options, *files]
    path = session.out / "parts/tests.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            process.wait(max(1.0, session.left))
        except subprocess.TimeoutExpired:
            process.kill()
    text = path.read_text()
    marks = Counter("".join(re.findall(r"^([.FEsx]+)(?: |$)", text, re.MULTILINE)))
    names = {".": "passed", "F": "failed", "E": "errors", "s": "skipped"}
    yield {name: marks[mark] for mark, name in names.items()} | dict(finished=process.returncode in (0, 1))
    if marks["F"] + marks["E"] or process.wait() not in (0, -signal.SIGKILL):
        raise RuntimeError(f"see {path}: {text.splitlines()[-1:]}")


Part = Callable[["Session"], Iterator[Result]]


def imported(module: str, function: str, **options: str) -> Part:
    """Returns the part that a function of `benchmarks` is; torch is not imported before it is called."""

    def part(session: "Session") -> Iterator[Result]:
        steps: Part = getattr(import_module(f"benchmarks.{module}"), function)
        return steps(session, **options)

    return part


PARTS: dict[str, tuple[float, Part]] = {
    "card": (10, card),
    "kernels": (70, imported("checks", "kernels")),
    "layer": (70, imported("checks", "layers")),
    "warm-up": (90, imported("speed", "warm_up")),
    "tiny": (90, imported("speed", "networks", variant="vil2-tiny")),
    "learn": (70, imported("learn", "learn")),
    "small": (50, imported("speed", "networks", variant="vil2-small")),
    "base": (50, imported("speed", "networks", variant="vil2-base")),
    "operator": (30, imported("speed", "operator")),
    "tests": (30, tests),
}
"""Each part's share of the time; what one leaves goes to those after it."""


def run_part(name: str, session: "Session") -> Result:
    """Runs a part, and writes what it has found after each step."""
    from benchmarks.contestants.case import LeftOut
    from benchmarks.reports.gpu_report import publish

    start = time.monotonic()
    found: Result = dict(rows=[], note="it was cut off", seconds=0.0)

    def save() -> None:
        found["seconds"] = time.monotonic() - start
        save_json(session.out / f"parts/{name}.json", found)
        publish(session.out, list(PARTS))

    save()
    try:
        found["note"] = collect(PARTS[name][1](session), found["rows"], session, save)
    except (LeftOut, ImportError) as reason:
        found["note"] = f"left out: {reason}"
    except Exception as error:  # the parts after it are to go on
        found["note"] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
    save()
    return found


def collect(steps: Iterator[Result], rows: list[Result], session: "Session", save: Callable[[], None]) -> str:
    """Fills `rows` until the steps or the time are over; returns a note about the time."""
    for row in steps:
        rows.append(row)
        save()
        if session.left < 0:
            break
    return f"its time was over after {len(rows)} results" if session.left < 0 else ""


def run_all(args: argparse.Namespace) -> int:
    """Runs the parts one after another, each in a process; returns the exit code."""
    from benchmarks.measure import say
    from benchmarks.reports.gpu_report import plots, publish, read_parts

    out, end = Path(args.out), time.monotonic() + 60 * args.minutes
    for old in out.glob("parts/*.json"):
        old.unlink()
    names = [name for name in PARTS if name in (args.parts or PARTS)]
    for index, name in enumerate(names):
        left = end - time.monotonic() - GRACE
        share = left * PARTS[name][0] / sum(PARTS[later][0] for later in names[index:])
        say(f"== {name}: {share:.0f} s of {left:.0f} s")
        note = "it was cut off before it began" if left > 0 else "left out: no time was left"
        save_json(out / f"parts/{name}.json", dict(rows=[], note=note, seconds=0.0))
        if left <= 0:
            continue
        run_process([*forwarded(args), "--part", name, "--seconds", str(share)], share + GRACE)
        plots(out, list(PARTS))
    publish(out, list(PARTS))
    found = read_parts(out, list(PARTS))
    say((out / "bench_gpu.md").read_text())
    return int(any(is_wrong(part) for part in found.values()))


def forwarded(args: argparse.Namespace) -> list[str]:
    """Returns the options that are passed on to the process of a part."""
    options = ["--out", args.out, *(["--official", args.official] if args.official else [])]
    return [*options, *(["--dry-run"] if args.dry_run else [])]


def run_process(options: Sequence[str], limit: float) -> None:
    """Runs this script and kills it, with the compilers it has started, after `limit` seconds."""
    process = subprocess.Popen([sys.executable, __file__, *options], start_new_session=True)
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        print(f"  killed after {limit:.0f} s", flush=True)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_wrong(part: Result) -> bool:
    """Returns whether a part failed or something in it was refused."""
    results = [found for row in part["rows"] for found in (row, *row.get("contestants", {}).values())]
    return part["note"].startswith("failed") or any("refused" in found for found in results)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work_dirs/bench_gpu", metavar="DIR")
    parser.add_argument("--official", metavar="CLONE", help="clone of NX-AI/vision-lstm; it needs einops")
    parser.add_argument("--minutes", type=float, default=8.0, help="time of all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)

    import torch
    from benchmarks.measure import say
    from benchmarks.session import Session

    with exit_on_error(args.debug):
        if args.minutes <= 0:
            raise ValueError(f"--minutes must be above 0, got {args.minutes}")
        if args.official and not (Path(args.official) / "vision_lstm").exists():
            raise ValueError(f"--official: there is no {Path(args.official) / 'vision_lstm'}")
        if not args.dry_run and not torch.cuda.is_available():
            raise ValueError("there is no GPU here; --dry-run runs all parts at toy sizes on the CPU")
        if not args.part:
            return run_all(args)
        device = torch.device("cpu" if args.dry_run else "cuda")
        session = Session(Path(args.out), device, args.dry_run, time.monotonic() + args.seconds, args.official)
        say(f"  {run_part(args.part, session)['note'] or 'complete'}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
