"""Writes the DRIVE pictures of retinas with the vessels of the first observer as a folder that the configs read.

Command: python tools/dataset_converters/make_drive.py SOURCE [--out DIR]

SOURCE is the folder of the set, with training/images, training/1st_manual, test/images and test/1st_manual. Writes
DIR/images/train, DIR/images/val, DIR/masks/train and DIR/masks/val: NUMBER.png, masks with 255 at vessels, else 0.
"""

from pathlib import Path

from vil_dense.command_line import plain_parser

SPLITS = {"train": "training", "val": "test"}


def main() -> None:
    arguments = plain_parser(__doc__)
    arguments.add_argument("source", type=Path, help="folder with training and test")
    arguments.add_argument("--out", type=Path, default=Path("data/drive"), help="folder to write (data/drive)")
    args = arguments.parse_args()

    import numpy as np

    from vil_dense.files import save_png
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.datasets.pictures import open_picture

    with report_errors(args.debug):
        for split, folder in SPLITS.items():
            pictures = sorted(args.source.glob(f"{folder}/images/*.tif"))
            if not pictures:
                raise FileNotFoundError(f"no pictures at {args.source}/{folder}/images/*.tif")
            for path in pictures:
                number = path.name.split("_")[0]
                truth = args.source / folder / "1st_manual" / f"{number}_manual1.gif"
                with open_picture(path) as picture, open_picture(truth, "mask") as mask:
                    vessels = np.asarray(mask.convert("L")) > 0
                    save_png(args.out / "images" / split / f"{number}.png", np.asarray(picture.convert("RGB")))
                save_png(args.out / "masks" / split / f"{number}.png", np.where(vessels, 255, 0).astype(np.uint8))
            print(f"{split}: {len(pictures)} pictures with masks in {args.out}")


if __name__ == "__main__":
    main()
