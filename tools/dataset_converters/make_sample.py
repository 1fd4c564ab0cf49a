"""Writes the synthetic sample and a contact sheet of it.

Command: python tools/dataset_converters/make_sample.py [--out data/sample]
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from vil_dense.command_line import plain_parser
from vil_dense.synthetic.scenes import CLASSES, PALETTE, write_sample


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
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/sample"), help="folder to write")
    parser.add_argument("--train", type=int, default=400, help="training pictures")
    parser.add_argument("--val", type=int, default=50, help="held-out pictures")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        with Progress("pictures") as progress:
            root = write_sample(args.out, train=args.train, val=args.val, report=progress)
        sheet = root.with_name(f"{root.name}_sheet.png")
        contact_sheet(root).save(sheet)
        print(f"sample: {root} ({args.train} + {args.val} pictures, {len(CLASSES)} classes)")
        print(f"contact sheet: {sheet}")


if __name__ == "__main__":
    main()
