"""Label pictures: python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR

Each INPUT is a picture or a folder of pictures. DIR/labels gets label PNGs in the data set's own ids (ADE20K's and the
sample's begin at 1), DIR/overlays the pictures with their labels over them.
"""

import sys
from pathlib import Path

import torch

from vil_dense.mm.command import one_sentence, parser, read_config
from vil_dense.mm.predict import Predictor, find_pictures


def main() -> int:
    arguments = parser("Label pictures with a trained segmentor.")
    arguments.add_argument("checkpoint", help="checkpoint file of this config's model")
    arguments.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, or folder of pictures")
    arguments.add_argument("--out", required=True, help="folder for labels and overlays")
    args = arguments.parse_args()
    with one_sentence():
        pictures = find_pictures(args.inputs)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        predictor = Predictor(read_config(args), args.checkpoint, device)
    unread = predictor.write_all(pictures, Path(args.out))
    print(f"{len(pictures) - len(unread)} pictures labelled in {args.out}")
    if unread:
        names = ", ".join(unread)
        print(f"error: {len(unread)} of {len(pictures)} pictures could not be read: {names}", file=sys.stderr)
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main())
