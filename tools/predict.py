"""Labels pictures with a trained segmentor.

Command: python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR

Each INPUT is a picture or a folder of pictures. Writes label PNGs to DIR/labels, with the ids of the data set (those of
ADE20K and of the sample begin at 1), and pictures with their labels to DIR/overlays.

Pictures are scaled and divided into windows as in the config's test. --own-size skips the scaling; --whole, --window
and --stride change the windows. Logits are never stored at the full size of a large picture. The estimated memory is
printed before the run.
"""

import sys
from pathlib import Path

from vil_dense.command_line import parser


def main() -> int:
    arguments = parser("Labels pictures with a trained segmentor.")
    arguments.add_argument("checkpoint", help="checkpoint file of this config's model")
    arguments.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, or folder of pictures")
    arguments.add_argument("--out", required=True, help="folder for labels and overlays")
    arguments.add_argument("--own-size", action="store_true", help="do not scale the pictures")
    arguments.add_argument("--whole", action="store_true", help="run whole pictures, without windows")
    arguments.add_argument(
        "--window", nargs="+", type=int, default=[], metavar="PX", help="H W, or one number for both"
    )
    arguments.add_argument(
        "--stride", nargs="+", type=int, default=[], metavar="PX", help="H W (default: two thirds of the window)"
    )
    arguments.add_argument("--window-batch", type=int, default=4, metavar="N", help="windows that run at one time (4)")
    args = arguments.parse_args()

    import torch

    from vil_dense.files import check_folders
    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.inference.predict import Predictor, find_pictures
    from vil_dense.mm.inference.sliding_window import choose_windows

    with report_errors(args.debug):
        pictures = find_pictures(args.inputs)
        check_folders(args.out)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        cfg = read_config(args)
        cfg.model.test_cfg = choose_windows(
            cfg.model.test_cfg, whole=args.whole, window=args.window, stride=args.stride
        )
        predictor = Predictor(cfg, args.checkpoint, device, own_size=args.own_size, batch=args.window_batch)
    with report_errors(args.debug, code=1):
        unread = predictor.write_all(pictures, Path(args.out))
        labelled = len(pictures) - len(unread)
        print(f"{labelled} picture{'s' * (labelled != 1)} labelled in {args.out}")
        if unread:
            names = ", ".join(unread)
            plural = "s" * (len(pictures) != 1)
            print(
                f"error: {len(unread)} of {len(pictures)} picture{plural} could not be read: {names}", file=sys.stderr
            )
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main())
