"""Measures time and memory of ViL and its peers: python tools/benchmark/benchmark.py op | backbone | train | infer

op        the mLSTM alone, each backend; --backward for forward and backward
backbone  forward of a network, pictures to tokens
train     forward and backward of a network, and hours for an epoch of ImageNet at 224 px
infer     the segmentor of a config, pictures to label maps
table     the table of ratios of configs/results/README.md, from the JSON files of earlier runs

    python tools/benchmark/benchmark.py op --sizes 196x8 1024x2 4096x1 --backward
    python tools/benchmark/benchmark.py backbone --official CLONE_OF_NX-AI/vision-lstm --direction quad-alternating
    python tools/benchmark/benchmark.py train --variant vil-tiny vil-small vil-base --sizes 224x64 --dtype bfloat16
    python tools/benchmark/benchmark.py infer --config configs/vil_upernet_ade20k.py --sizes 1024x1 --whole

A size is SIDExBATCH (px), or LENGTHxBATCH for the operator. Each contestant is first compared with a reference; a wrong
one is refused and not timed, and the exit code is 1; one that cannot take part is left out. The others are timed
alternately in one process. Writes MODE.json, MODE.md (ratios) and MODE.png (time and memory against tokens) to --out.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from benchmarks.contestants.case import TOLERANCES, Case
from benchmarks.contestants.segmentors import variant_of
from benchmarks.contestants.table import MODES, Make, contestants
from benchmarks.measure import MEMORY, Result, contest, duration, say
from benchmarks.reports.report import page, write
from benchmarks.reports.summary import summary

from vil_dense.backbones import VARIANTS
from vil_dense.backbones.vision_lstm import DIRECTIONS
from vil_dense.errors import exit_on_error
from vil_dense.files import read_json

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZES = {"op": "196x8 1024x2 4096x1", "infer": "1024x1", "train": "224x8 512x2 1024x1"}
SIZES["backbone"] = SIZES["train"] + " 2048x1"
FIXED_WORK = 10**9
ENVIRONMENT = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Prefixes of environment variables that change times."""
PACKAGES = ("torch", "triton", "vil_dense", "einops", "mamba_ssm", "mlstm_kernels", "onedl-mmsegmentation")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; `make_cases` and `choose` check it further."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--sizes", nargs="+", metavar="SIDExBATCH", help="default: by mode")
    shared.add_argument("--contestants", nargs="+", metavar="NAME", help="default: all that can take part")
    shared.add_argument("--dim", type=int, help="channels, in place of the variant's")
    shared.add_argument("--depth", type=int, help="blocks, in place of the variant's")
    shared.add_argument("--repeats", type=int, default=7)
    shared.add_argument(
        "--patience",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="of slower contestants only three repeats are timed",
    )
    shared.add_argument("--threads", type=int, default=torch.get_num_threads())
    shared.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    shared.add_argument("--dtype", default="float32", help=f"dtype of autocast: {', '.join(DTYPES)}")
    shared.add_argument(
        "--memory-limit", type=float, metavar="GIB", help="limit for S x S matrices (default: 3/4 of the memory)"
    )
    shared.add_argument("--out", default="work_dirs/benchmark", metavar="DIR")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = arguments.add_subparsers(dest="mode", required=True, metavar="MODE")
    for mode in MODES:
        options = modes.add_parser(mode, parents=[shared])
        if mode == "infer":
            options.add_argument(
                "--config", default=str(ROOT / "configs/ade20k/vil2-t_upernet_1xb16-160k_ade20k-1024x1024.py")
            )
            options.add_argument("--whole", action="store_true", help="whole pictures, no windows")
            continue
        options.add_argument("--variant", nargs="+", default=["vil2-tiny"], metavar="NAME")
        if mode == "op":
            options.add_argument("--backward", action="store_true", help="time forward and backward")
            continue
        options.add_argument(
            "--direction", nargs="+", default=[], metavar="NAME", help="also our network in these directions"
        )
        options.add_argument("--official", metavar="PATH", help="clone of NX-AI/vision-lstm; it needs einops")
        options.add_argument("--vim", metavar="PATH", help="clone of hustvl/Vim; it needs its CUDA kernels")
    table = modes.add_parser("table")
    table.add_argument("files", nargs="+", type=Path, metavar="JSON")
    table.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return arguments.parse_args(argv)


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raises ValueError if `name` is not one of `known`."""
    if name not in known:
        raise ValueError(f"unknown {option} {name!r}; known: {', '.join(known)}")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for options that contradict each other."""
    check_name("dtype", args.dtype, list(DTYPES))
    devices = ["cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    check_name("device", args.device, devices if torch.cuda.is_available() else ["cpu"])
    for name in getattr(args, "variant", ()):
        check_name("variant", name, [variant for variant in VARIANTS if variant.startswith("vil")])
    for name in getattr(args, "direction", ()):
        check_name("direction", name, list(DIRECTIONS))
    for name in ("repeats", "threads", "patience", "dim", "depth", "memory_limit"):
        if (value := getattr(args, name)) is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    for name, inside in (("official", "vision_lstm"), ("vim", "vim"), ("config", "")):
        if (path := getattr(args, name, None)) and not (Path(path) / inside).exists():
            raise ValueError(f"--{name}: there is no {Path(path) / inside}")


def make_cases(args: argparse.Namespace) -> list[Case]:
    """Makes a case of every variant at every size."""
    device = torch.device(args.device)
    if not args.memory_limit:
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else host
        args.memory_limit = 0.75 * total / 2**30
    own = {"dim", "depth", "official", "vim", "config", "whole"} & set(vars(args))
    backward = args.mode == "train" or getattr(args, "backward", False)
    fixed = dict(mode=args.mode, device=device, dtype=DTYPES[args.dtype], backward=backward)
    fixed.update(memory_limit=args.memory_limit * 2**30, **{name: getattr(args, name) for name in own})
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
    """Chooses the requested contestants; by default all, without those whose clone is not given."""
    makers = contestants(args.mode, getattr(args, "direction", ()))
    waiting = {
        name: option
        for name in makers
        if (option := name.removesuffix("-compiled")) in ("official", "vim") and not getattr(args, option)
    }
    for name in args.contestants or ():
        check_name("contestant", name, list(makers))
        if name in waiting:
            raise ValueError(f"contestant {name!r} needs --{waiting[name]}")
    return {name: makers[name] for name in args.contestants or (name for name in makers if name not in waiting)}


def surroundings(args: argparse.Namespace) -> Result:
    """Describes the device, versions and settings that the results depend on."""
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    versions = dict(python=platform.python_version(), **({"cuda": torch.version.cuda} if on_gpu else {}))
    versions |= installed(PACKAGES)
    clones = dict(vil_dense=ROOT, **{name: getattr(args, name, None) for name in ("official", "vim")})
    return dict(
        mode=args.mode,
        arguments=vars(args),
        config=getattr(args, "config", None),
        device=torch.cuda.get_device_name(device) if on_gpu else processor(),
        dtype=args.dtype,
        tolerance=TOLERANCES[DTYPES[args.dtype]],
        tf32=dict(convolutions=torch.backends.cudnn.allow_tf32, products=torch.backends.cuda.matmul.allow_tf32),
        threads=torch.get_num_threads(),
        environment={name: value for name, value in sorted(os.environ.items()) if name.startswith(ENVIRONMENT)},
        compile="torch.compile in place: ours by compile_blocks, the others block by block with dynamic=False",
        memory=MEMORY[device.type],
        versions=versions,
        commits={name: commit(Path(folder)) for name, folder in clones.items() if folder},
    )


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def processor() -> str:
    """Returns the name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def commit(folder: Path) -> str | None:
    """Returns the commit of a checkout, with a + if files are changed; None without git."""
    try:
        texts = [
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return texts[0].strip() + "+" * bool(texts[1])


def work(case: Case) -> int:
    """Estimates the time of a case in arbitrary units; `FIXED_WORK` stands for checks and compilation."""
    return FIXED_WORK + case.batch * case.tokens * case.options["dim"] ** 2 * case.options["depth"]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with exit_on_error(args.debug):
        return show_tables(args.files) if args.mode == "table" else run(args)


def show_tables(files: Sequence[Path]) -> int:
    """Prints the ratios of each file."""
    for found in map(read_json, files):
        say(f"{found['mode']}, {found['device']}, {found['dtype']}\n\n{summary(found['rows'], found['mode'])}\n")
    return 0


def run(args: argparse.Namespace) -> int:
    """Runs all cases; returns 1 if a contestant was refused, else 0."""
    check_arguments(args)
    cases, makers, out = make_cases(args), choose(args), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if args.dtype == "float32":  # cuDNN's convolutions would be in TF32, and no network within the tolerance
        torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest" if args.dtype == "float32" else "high")  # as trainings do
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages
    rows: list[Result] = []
    found = dict(surroundings(args), rows=rows)
    start = time.perf_counter()
    for index, case in enumerate(cases):
        done, left = (sum(map(work, part)) for part in (cases[:index], cases[index:]))
        eta = f", about {duration((time.perf_counter() - start) * left / done)} left" if done else ""
        say(f"[{index + 1}/{len(cases)}] {case}{eta}")
        shape = dict(tokens=case.tokens, batch=case.batch, dim=case.options["dim"], depth=case.options["depth"])
        results = contest(case, makers, args.repeats, args.patience)
        rows.append(dict(variant=case.variant, size=f"{case.size}x{case.batch}", **shape, contestants=results))
        write(found, out)  # after each size: a long run that is stopped leaves what it has
    say(page(found))
    return int(any("refused" in result for row in rows for result in row["contestants"].values()))


if __name__ == "__main__":
    sys.exit(main())
