"""Labels pictures with a trained segmentor.

Command: python tools/predict.py MODEL INPUT... --out DIR
         python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR

MODEL is a published file or folder (tools/publish_model.py), or the work folder of a run, whose best or else last
checkpoint is taken; it needs no checkpoint. After a config comes a checkpoint. An .onnx file of tools/export_onnx.py is
run by onnxruntime.

Each INPUT is a picture, a video or a folder of pictures. Writes label PNGs to DIR/labels, with the ids of the data set
(those of ADE20K and of the sample begin at 1), and pictures with their labels to DIR/overlays. The labels of a
georeferenced TIFF, which may be larger than memory, are a GeoTIFF in DIR/labels. The overlays of a video are an MP4 in
DIR/videos.

Pictures are scaled and divided into windows as in the config's test. --own-size skips the scaling; --whole, --window
and --stride change the windows. Logits are never stored at the full size of a large picture. The estimated memory is
printed before the run.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vil_dense.command_line import parser


def options() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    arguments = parser("Labels pictures with a trained segmentor.")
    arguments.add_argument(
        "files", nargs="+", metavar="[CHECKPOINT] INPUT", help="pictures, videos, or folders of pictures"
    )
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
    arguments.add_argument("--opacity", type=float, default=0.5, help="of the colours in overlays, 0 to 1 (0.5)")
    arguments.add_argument("--probabilities", action="store_true", help="write those of all classes, as .npy")
    arguments.add_argument("--bf16", action="store_true", help="mixed precision in bfloat16")
    arguments.add_argument("--frame-labels", action="store_true", help="of a video: write the label PNG of each frame")
    raster = arguments.add_argument_group("GeoTIFF")
    raster.add_argument("--bands", nargs="+", type=int, metavar="N", help="bands for the channels of the model, from 1")
    raster.add_argument(
        "--percentiles", nargs=2, type=float, metavar=("LOW", "HIGH"), help="scale each band by these of the raster"
    )
    raster.add_argument("--blend", choices=["taper", "mean"], help="weights of overlapping windows (taper)")
    return arguments


def check_options(
    args: argparse.Namespace, chosen: Mapping[str, Any], rasters: Mapping[Path, Path], videos: Mapping[Path, Path]
) -> None:
    """Refuses options for kinds of input that there are none of, and an opacity that cannot be."""
    if not 0 <= args.opacity <= 1:
        raise ValueError(f"--opacity is in 0..1, got {args.opacity}")
    if chosen and not rasters:
        raise ValueError(f"--{next(iter(chosen))} is for GeoTIFFs, and no input is a georeferenced one")
    if args.frame_labels and not videos:
        raise ValueError("--frame-labels is for videos, and no input is one")
    if args.probabilities and (rasters or videos):
        raise ValueError(f"--probabilities are written for pictures only, not for {next(iter([*rasters, *videos]))}")


def main() -> int:
    args = options().parse_args()

    import torch

    from vil_dense.files import check_folders
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.inference.pictures import find_pictures
    from vil_dense.mm.inference.predict import write_all, write_rasters, write_videos
    from vil_dense.mm.inference.raster.labels import split_rasters
    from vil_dense.mm.inference.segmentor import Segmentor
    from vil_dense.mm.inference.sliding_window import choose_windows
    from vil_dense.mm.inference.video import split_videos
    from vil_dense.mm.publish.command_line import read_model

    with report_errors(args.debug):
        trained, inputs = read_model(args, args.files, onnx=True)
        if not inputs:
            raise ValueError(f"no pictures to label: INPUT is missing after {args.files[-1]}")
        found = find_pictures(inputs)
        still, videos = split_videos(found)
        pictures, rasters = split_rasters(still)
        chosen = {key: getattr(args, key) for key in ("bands", "percentiles", "blend") if getattr(args, key)}
        check_options(args, chosen, rasters, videos)
        check_folders(args.out)
        test_cfg = trained.cfg.model.get("test_cfg") or dict(mode="whole")
        trained.cfg.model.test_cfg = choose_windows(test_cfg, whole=args.whole, window=args.window, stride=args.stride)
        dtype = torch.bfloat16 if args.bf16 else None
        segmentor = Segmentor(trained, dtype=dtype, own_size=args.own_size, batch=args.window_batch)
    with report_errors(args.debug, code=1):
        unread = write_all(segmentor, pictures, Path(args.out), opacity=args.opacity, probabilities=args.probabilities)
        unread += write_rasters(segmentor, rasters, Path(args.out), **chosen)
        unread += write_videos(segmentor, videos, Path(args.out), opacity=args.opacity, masks=args.frame_labels)
        labelled, kind = len(found) - len(unread), "file" if videos else "picture"
        print(f"{labelled} {kind}{'s' * (labelled != 1)} labelled in {args.out}")
        if unread:
            kinds = kind + "s" * (len(found) != 1)
            what = f"{len(unread)} of {len(found)} {kinds} could not be read"
            print(f"error: {what}: {', '.join(unread)}", file=sys.stderr)
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main())
