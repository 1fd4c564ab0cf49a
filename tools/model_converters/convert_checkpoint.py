"""Converts published ViL weights to the layout of this project.

Command: python tools/model_converters/convert_checkpoint.py SRC DST

SRC is a published .th file, or a .th, .pth or .safetensors file with the keys of the stand-alone package. No code of it
is run. DST is the .pth or .safetensors file to write, for init_cfg=dict(type="Pretrained", checkpoint=DST).
"""

import argparse

from vil_dense.backbones import DIRECTIONS
from vil_dense.backbones.checkpoint import layout_of, to_own, verified
from vil_dense.errors import exit_on_error
from vil_dense.state_files import read_state, write_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", help="file of published weights")
    parser.add_argument("dst", help="file to write, .pth or .safetensors")
    parser.add_argument(
        "--direction",
        default="bi-alternating",
        choices=DIRECTIONS,
        help="block design, if the weights do not show it (default: bi-alternating, that of all published models)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    with exit_on_error(args.debug):
        convert(args)


def convert(args: argparse.Namespace) -> None:
    """Converts `args.src`, checks that a network takes the weights, and writes `args.dst`."""
    if not args.dst.endswith((".pth", ".safetensors")):
        raise ValueError(f"DST must end in .pth or .safetensors, got {args.dst}")
    state = read_state(args.src)
    own = to_own(state, direction=args.direction)
    options, parameters = verified(own, args.direction)
    write_state(own, args.dst)
    shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
    print(f"{len(own)} of {len(state)} tensors ({layout_of(state)} layout), {parameters:,} parameters -> {args.dst}")
    print(f"VisionLSTM({shown})")


if __name__ == "__main__":
    main()
