"""Writes the embedded sample and a contact sheet of it.

Command: python tools/dataset_converters/make_sample.py [--out data/sample]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from vil_dense.mm.cli.arguments import plain_parser, report_errors
from vil_dense.synthetic.scenes import CLASSES, PALETTE, write_sample


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/sample"), help="folder to write")
    parser.add_argument("--train", type=int, default=400, help="training pictures")
    parser.add_argument("--val", type=int, default=50, help="held-out pictures")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def progress(start: float, done: int, total: int) -> None:
    """Prints the progress and the remaining time on one line."""
    if done % 10 == 0 or done == total:
        left = (time.monotonic() - start) / done * (total - done)
        print(f"\r{done}/{total} pictures, {left:.0f} s left ", end="\n" if done == total else "", file=sys.stderr)


def contact_sheet(root: Path, columns: int = 4, rows: int = 3, cell: int = 220, key: int = 26) -> Image.Image:
    """Draws validation pictures, each beside the same picture with its labels, above a legend of the colours."""
    palette = np.array([(0, 0, 0), *PALETTE])
    sheet = Image.new("RGB", (2 * cell * columns, cell * rows + key), "white")
    for n, path in enumerate(sorted((root / "images/validation").glob("*.jpg"))[: columns * rows]):
        image = Image.open(path).convert("RGB")
        label = np.asarray(Image.open(root / "annotations/validation" / f"{path.stem}.png"))
        overlay = Image.fromarray((0.35 * np.asarray(image) + 0.65 * palette[label]).astype(np.uint8))
        for side, picture in enumerate((image, overlay)):
            shown = ImageOps.contain(picture, (cell - 8, cell - 8))
            x, y = (2 * (n % columns) + side) * cell, n // columns * cell
            sheet.paste(shown, (x + (cell - shown.width) // 2, y + (cell - shown.height) // 2))
    draw, step = ImageDraw.Draw(sheet), sheet.width // len(palette)
    for n, (name, colour) in enumerate(zip(("other", *CLASSES), palette, strict=True)):
        draw.rectangle(
            (n * step + 8, cell * rows + 6, n * step + 22, cell * rows + 20), tuple(colour.tolist()), "black"
        )
        draw.text((n * step + 28, cell * rows + 6), name, "black")
    return sheet


def main() -> None:
    args = parse_args()
    start = time.monotonic()
    with report_errors(args.debug):
        root = write_sample(
            args.out,
            train=args.train,
            val=args.val,
            seed=args.seed,
            report=lambda done, total: progress(start, done, total),
        )
        sheet = root.with_name(f"{root.name}_sheet.png")
        contact_sheet(root).save(sheet)
    print(f"sample: {root} ({args.train} + {args.val} pictures, {len(CLASSES)} classes, seed {args.seed})")
    print(f"contact sheet: {sheet}")


if __name__ == "__main__":
    main()
