"""Converts published ViL weights to the layout of this project.

Command: python tools/model_converters/convert_checkpoint.py SRC DST

SRC is a published .th file, or a .th, .pth or .safetensors file with the keys of the stand-alone package. No code of it
is run. DST is the .pth or .safetensors file to write, for init_cfg=dict(type="Pretrained", checkpoint=DST).
"""

import argparse

from vil_dense.command_line import plain_parser
from vil_dense.errors import exit_on_error

DIRECTIONS = ["uni", "bi", "bi-shared", "bi-alternating", "quad", "quad-shared", "quad-alternating"]


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("src")
    parser.add_argument("dst")
    parser.add_argument(
        "--direction",
        default="bi-alternating",
        choices=DIRECTIONS,
        help="block design, if the weights do not show it (default: bi-alternating, that of all published models)",
    )
    args = parser.parse_args()
    with exit_on_error(args.debug):
        convert(args)


def convert(args: argparse.Namespace) -> None:
    """Converts `args.src`, checks that a network takes the weights, and writes `args.dst`."""
    from vil_dense.backbones.checkpoint import layout_of, to_own, verified
    from vil_dense.state_files import read_state, write_state

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
