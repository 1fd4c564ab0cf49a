"""Cuts CamVid's training pictures into labelled crops for a classifier.

Command: python tools/dataset_converters/make_crops.py [--out DIR]

A crop has 64 x 64 px, and its label is the class of at least half of them; a class with fewer than 50 training crops
is left out. Writes train/CLASS/*.jpg and
val/CLASS/*.jpg; both come from the training pictures, the validation crops from the last tenth of them.
"""

import os
from pathlib import Path

from vil_dense.command_line import at_least, plain_parser


def main() -> None:
    default = Path(os.environ["VIL_DENSE_DATA"]) / "camvid" if "VIL_DENSE_DATA" in os.environ else Path("data/camvid")
    parser = plain_parser(__doc__)
    parser.add_argument("--source", type=Path, default=default, help=f"folder of CamVid (default: {default})")
    parser.add_argument("--out", type=Path, default=Path("data/camvid_crops"), help="folder to write")
    parser.add_argument(
        "--most", type=at_least(1), default=1000, help="most training crops of a class; a tenth to validate"
    )
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.datasets.crops import cut_crops
    from vil_dense.mm.datasets.segmentation import CamVidDataset
    from vil_dense.progress import Progress

    with report_errors(args.debug), Progress("pictures") as progress:
        counts = cut_crops(args.source, args.out, CamVidDataset.METAINFO["classes"], most=args.most, report=progress)
    left_out = [name for name in CamVidDataset.METAINFO["classes"] if name not in counts]
    with report_errors(args.debug):
        for name, (train, val) in counts.items():
            print(f"{name}: {train} + {val}")
        print(f"crops: {args.out}, {len(counts)} classes, left out: {', '.join(left_out) or 'none'}")


if __name__ == "__main__":
    main()
