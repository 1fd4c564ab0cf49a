"""Cuts CamVid's training pictures into labelled crops for a classifier.

Command: python tools/dataset_converters/make_crops.py [--out DIR]

The label of a crop is the class of at least the fraction --share of its pixels. Writes train/CLASS/*.jpg and
val/CLASS/*.jpg; both come from the training pictures, the validation crops from the last tenth of them.
"""

import os
import sys
import time
from pathlib import Path

from vil_dense.mm import CamVidDataset
from vil_dense.mm.cli.arguments import plain_parser, report_errors
from vil_dense.mm.datasets.crops import cut_crops


def progress(start: float, done: int, total: int) -> None:
    """Prints the progress and the remaining time on one line."""
    if done % 20 == 0 or done == total:
        left = (time.monotonic() - start) / done * (total - done)
        print(f"\r{done}/{total} pictures, {left:.0f} s left ", end="\n" if done == total else "", file=sys.stderr)


def main() -> None:
    default = Path(os.environ["VIL_DENSE_DATA"]) / "camvid" if "VIL_DENSE_DATA" in os.environ else Path("data/camvid")
    parser = plain_parser(__doc__)
    parser.add_argument("--source", type=Path, default=default, help=f"folder of CamVid (default: {default})")
    parser.add_argument("--out", type=Path, default=Path("data/camvid_crops"), help="folder to write")
    parser.add_argument("--size", type=int, default=64, help="side of a crop in px")
    parser.add_argument("--stride", type=int, default=32, help="distance of neighbouring crops in px")
    parser.add_argument("--share", type=float, default=0.5, help="smallest fraction of pixels of the crop's class")
    parser.add_argument("--most", type=int, default=1000, help="most training crops of a class; a tenth to validate")
    parser.add_argument("--least", type=int, default=50, help="a class with fewer training crops is left out")
    args = parser.parse_args()
    start = time.monotonic()
    with report_errors(args.debug):
        counts = cut_crops(
            args.source,
            args.out,
            CamVidDataset.METAINFO["classes"],
            size=args.size,
            stride=args.stride,
            share=args.share,
            most=args.most,
            least=args.least,
            report=lambda done, total: progress(start, done, total),
        )
    left_out = [name for name in CamVidDataset.METAINFO["classes"] if name not in counts]
    for name, (train, val) in counts.items():
        print(f"{name}: {train} + {val}")
    print(f"crops: {args.out}, {len(counts)} classes, left out: {', '.join(left_out) or 'none'}")


if __name__ == "__main__":
    main()
