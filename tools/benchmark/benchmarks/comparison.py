"""Runs a whole comparison: chooses cases and contestants, and notes what the numbers depend on."""

import argparse
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch

from benchmarks.contestants.case import TOLERANCES, Case
from benchmarks.contestants.segmentors import variant_of
from benchmarks.contestants.table import Make, contestants
from benchmarks.machine import ROOT, commit, hardware, versions
from benchmarks.measure import MEMORY, Result, contest
from benchmarks.report import page, ratios, write
from vil_dense.backbones import VARIANTS
from vil_dense.backbones.vision_lstm import DIRECTIONS
from vil_dense.files import read_json, save_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZES = {"op": "196x8 1024x2 4096x1", "infer": "1024x1", "train": "224x8 512x2 1024x1", "layer": "144x2 304x2"}
SIZES["backbone"] = SIZES["train"] + " 2048x1"
FIXED_WORK = 10**9
ENVIRONMENT = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Beginnings of the names of variables that change times."""


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raises ValueError if `name` is not one of `known`."""
    if name not in known:
        raise ValueError(f"unknown {option} {name!r}; known: {', '.join(known)}")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError where the command line makes no sense."""
    check_name("dtype", args.dtype, list(DTYPES))
    devices = ["cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    check_name("device", args.device, devices if torch.cuda.is_available() else ["cpu"])
    for name in getattr(args, "variant", ()):
        check_name("variant", name, [variant for variant in VARIANTS if variant.startswith("vil")])
    for name in getattr(args, "direction", ()):
        check_name("direction", name, list(DIRECTIONS))
    for name in ("repeats", "threads", "patience", "dim", "depth", "seconds", "steps"):
        if (value := getattr(args, name, None)) is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    for name, inside in (("official", "vision_lstm"), ("config", "")):
        if (path := getattr(args, name, None)) and not (Path(path) / inside).exists():
            raise ValueError(f"--{name}: there is no {Path(path) / inside}")


def make_cases(args: argparse.Namespace) -> list[Case]:
    """Makes a case of every variant at every size."""
    device = torch.device(args.device)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else host
    own = {"dim", "depth", "official", "config", "whole"} & set(vars(args))
    backward = args.mode in ("train", "layer") or getattr(args, "backward", False)
    fixed = dict(mode=args.mode, device=device, dtype=DTYPES[args.dtype], backward=backward)
    fixed.update(memory_limit=0.75 * total, **{name: getattr(args, name) for name in own})
    sizes = [size_of(text) for text in args.sizes or SIZES[args.mode].split()]
    variants = [variant_of(args.config)] if args.mode == "infer" else args.variant
    return [Case(variant=name, size=size, batch=batch, **fixed) for name in variants for size, batch in sizes]


def size_of(text: str) -> tuple[int, int]:
    """Parses a size: `224x8` as (224, 8)."""
    numbers = text.split("x")
    if len(numbers) != 2 or not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise ValueError(f"a size is SIDExBATCH, like 224x8; got {text!r}")
    return int(numbers[0]), int(numbers[1])


def choose(args: argparse.Namespace) -> dict[str, Make]:
    """Chooses the requested contestants, or all but those whose clone is not named."""
    makers = contestants(args.mode, getattr(args, "direction", ()))
    waiting = [name for name in makers if name.startswith("official") and not args.official]
    for name in args.contestants or ():
        check_name("contestant", name, list(makers))
        if name in waiting:
            raise ValueError(f"contestant {name!r} needs --official")
    return {name: makers[name] for name in args.contestants or (name for name in makers if name not in waiting)}


def describe(args: argparse.Namespace) -> Result:
    """Describes all that a number depends on, beside the sizes."""
    device = torch.device(args.device)
    clones = dict(vil_dense=ROOT, official=getattr(args, "official", None))
    return dict(
        mode=args.mode,
        arguments=vars(args),
        config=getattr(args, "config", None),
        **hardware(device),
        dtype=args.dtype,
        tolerance=TOLERANCES[DTYPES[args.dtype]],
        tf32=dict(convolutions=torch.backends.cudnn.allow_tf32, products=torch.backends.cuda.matmul.allow_tf32),
        threads=torch.get_num_threads(),
        environment={name: value for name, value in sorted(os.environ.items()) if name.startswith(ENVIRONMENT)},
        compile="torch.compile in place: ours by compile_blocks, the others block by block with dynamic=False",
        memory=MEMORY[device.type],
        versions=versions(),
        commits={name: commit(Path(folder)) for name, folder in clones.items() if folder},
    )


def work(case: Case) -> int:
    """Estimates the time of a case in arbitrary units; `FIXED_WORK` stands for checks and compilation."""
    return FIXED_WORK + case.batch * case.tokens * case.options["dim"] ** 2 * case.options["depth"]


def show_tables(files: Sequence[Path]) -> int:
    """Prints the ratios of each file."""
    for found in map(read_json, files):
        print(f"{found['mode']}, {found['device']}, {found['dtype']}\n\n{ratios(found['rows'], found['mode'])}\n")
    return 0


def prepare(args: argparse.Namespace) -> None:
    """Chooses device and threads, checks the command line, and sets the precision: TF32 as trainings do, or none."""
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    args.threads = torch.get_num_threads() if args.threads is None else args.threads
    check_arguments(args)
    torch.set_num_threads(args.threads)
    if args.dtype == "float32":  # cuDNN's convolutions would be in TF32, and no network within the tolerance
        torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest" if args.dtype == "float32" else "high")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages


def run_learn(args: argparse.Namespace) -> int:
    """Trains on the synthetic sample and writes learn.json."""
    from benchmarks.learn import learn  # it paints with PIL, which nothing else needs

    prepare(args)
    result = learn(args.backend, torch.device(args.device), DTYPES[args.dtype], args.seconds, args.steps)
    save_json(Path(args.out) / "learn.json", dict(describe(args), rows=[], training=result))
    print(f"loss {result['loss'][0]:.3f} to {result['loss'][-1]:.3f}, held-out mIoU {result['miou']:.1f}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Runs all cases; returns 0, or 1 where a contestant was refused."""
    prepare(args)
    cases, makers, out = make_cases(args), choose(args), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Result] = []
    found = dict(describe(args), rows=rows)
    start = time.perf_counter()
    for index, case in enumerate(cases):
        done, left = (sum(map(work, part)) for part in (cases[:index], cases[index:]))
        seconds = (time.perf_counter() - start) * left / done if done else 0
        eta = f", about {timedelta(seconds=round(seconds))} left" if done else ""
        print(f"[{index + 1}/{len(cases)}] {case}{eta}", flush=True)
        shape = dict(tokens=case.tokens, batch=case.batch, dim=case.options["dim"], depth=case.options["depth"])
        results = contest(case, makers, args.repeats, args.patience)
        rows.append(dict(variant=case.variant, size=f"{case.size}x{case.batch}", **shape, contestants=results))
        write(found, out)  # after each size: a long run that is stopped leaves what it has
    print(page(found), flush=True)
    return int(any("refused" in result for row in rows for result in row["contestants"].values()))
