"""Measures time and memory of ViL and its peers: python tools/benchmark/benchmark.py op | layer | backbone | ...

op        the mLSTM alone, each backend; --backward for forward and backward
layer     one fused layer alone, forward and backward
backbone  forward of a network, pictures to tokens
train     forward and backward of a network, and hours for an epoch of ImageNet at 224 px
infer     the segmentor of a config, pictures to label maps
learn     no comparison: a training on the synthetic sample for --seconds
cost      no comparison: estimated memory and time of volume networks beside the measured ones (CPU, float32)
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
import sys
from collections.abc import Sequence
from pathlib import Path

from vil_dense.errors import exit_on_error

ROOT = Path(__file__).resolve().parents[2]
MODES = ("op", "layer", "backbone", "train", "infer", "learn", "cost")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; `make_cases` and `choose` check it further."""
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared = argparse.ArgumentParser(add_help=False, parents=[debug])
    shared.add_argument("--sizes", nargs="+", metavar="SIDExBATCH", help="default: by mode")
    shared.add_argument("--contestants", nargs="+", metavar="NAME", help="default: all that can take part")
    shared.add_argument("--dim", type=int, help="channels, in place of the variant's")
    shared.add_argument("--depth", type=int, help="blocks, in place of the variant's")
    shared.add_argument("--repeats", type=int, default=7)
    shared.add_argument("--patience", type=float, default=10.0, metavar="SECONDS", help="slower: three repeats at most")
    shared.add_argument("--threads", type=int, help="default: torch's")
    shared.add_argument("--device", help="default: cuda, or cpu where there is none")
    shared.add_argument("--dtype", default="float32", help="of autocast: float32, bfloat16, float16")
    shared.add_argument("--out", default="work_dirs/benchmark", metavar="DIR")
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = arguments.add_subparsers(dest="mode", required=True, metavar="MODE")
    for mode in MODES:
        options = modes.add_parser(mode, parents=[shared])
        if mode == "learn":
            options.add_argument("--backend", default="chunkwise", help="of the mLSTM")
            options.add_argument("--seconds", type=float, default=60.0)
            options.add_argument("--steps", type=int, help="most steps; then the pictures are few, too")
        if mode == "infer":
            config = ROOT / "configs/ade20k/vil2-t_upernet_1xb16-160k_ade20k-1024x1024.py"
            options.add_argument("--config", default=str(config))
            options.add_argument("--whole", action="store_true", help="whole pictures, no windows")
        if mode in ("op", "layer", "backbone", "train"):
            options.add_argument("--variant", nargs="+", default=["vil2-tiny"], metavar="NAME")
        if mode == "op":
            options.add_argument("--backward", action="store_true", help="time forward and backward")
        if mode in ("backbone", "train"):
            options.add_argument(
                "--direction", nargs="+", default=[], metavar="NAME", help="also ours in these directions"
            )
            options.add_argument("--official", metavar="PATH", help="clone of NX-AI/vision-lstm; it needs einops")
    table = modes.add_parser("table", parents=[debug])
    table.add_argument("files", nargs="+", type=Path, metavar="JSON")
    return arguments.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)

    from benchmarks.comparison import run, run_learn, show_tables
    from benchmarks.cost import run_cost

    with exit_on_error(args.debug):
        if args.mode == "table":
            return show_tables(args.files)
        if args.mode == "cost":
            return run_cost(args.contestants or [], args.sizes or ["64x1"], Path(args.out))
        return run_learn(args) if args.mode == "learn" else run(args)


if __name__ == "__main__":
    sys.exit(main())
