"""Writes the synthetic sample of volumes and a contact sheet of it.

Command: python tools/dataset_converters/make_phantom.py [--out data/phantom]
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vil_dense.command_line import plain_parser
from vil_dense.synthetic.volumes import LABELS, make_case, write_sample

PALETTE = np.array([(0, 0, 0), (200, 90, 70), (90, 130, 220), (240, 200, 60), (90, 200, 120)])


def contact_sheet(rows: int = 3, slices: tuple[int, ...] = (8, 14, 20), zoom: int = 3) -> Image.Image:
    """Draws axial slices of the first cases, each beside the same slice with its labels; front of the body up."""
    lines = []
    for index in range(rows):
        image, labels = make_case(index)
        grey = np.clip((image + 200.0) / 600, 0, 1)[..., None] * np.full(3, 255.0)
        over = np.where(labels[..., None] > 0, 0.4 * grey + 0.6 * PALETTE[labels], grey)
        tiles = [picture[:, ::-1, k].swapaxes(0, 1) for k in slices for picture in (grey, over)]
        lines.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(lines).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1))


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/phantom"), help="folder to write")
    parser.add_argument("--train", type=int, default=24, help="training volumes")
    parser.add_argument("--val", type=int, default=6, help="held-out volumes")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        with Progress("making volumes") as progress:
            root = write_sample(args.out, train=args.train, val=args.val, report=progress)
        sheet = root.with_name(f"{root.name}_sheet.png")
        contact_sheet().save(sheet)
        print(f"sample: {root} ({args.train} + {args.val} volumes, classes {', '.join(LABELS)})")
        print(f"contact sheet: {sheet}")


if __name__ == "__main__":
    main()
