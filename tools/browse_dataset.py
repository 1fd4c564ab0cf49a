"""Draws training samples of a config as PNG sheets: what the network sees, with file names and classes.

Command: python tools/browse_dataset.py CONFIG --out DIR [--number N]

Segmentors: the picture after the pipeline, and its mask over it. Classifiers: as in the test, augmented, and mixed.
"""

from pathlib import Path

import numpy as np

from vil_dense.command_line import at_least, parser
from vil_dense.files import check_folders, save_png

ON_A_SHEET = 16


def main() -> None:
    arguments = parser("Draws training samples of a config as PNG sheets.")
    arguments.add_argument("--out", required=True, help="folder for the sheets")
    arguments.add_argument(
        "--number", type=at_least(1), default=ON_A_SHEET, help=f"samples, evenly spread ({ON_A_SHEET})"
    )
    args = arguments.parse_args()

    import torch
    from mmengine.registry import DATASETS

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.engine.resolve.config import resolve_classes
    from vil_dense.mm.engine.resolve.pictures import resolve_pictures
    from vil_dense.mm.visualization import browse

    with report_errors(args.debug):
        check_folders(args.out)
        cfg = read_config(args)
        if "plan" in cfg:
            raise ValueError(f"{args.config} trains on volumes, and only pictures are drawn")
        cfg.work_dir = args.out
        resolve_classes(cfg)
        for line in resolve_pictures(cfg):
            print(line)
        torch.manual_seed(0)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        picked = np.unique(np.linspace(0, len(dataset) - 1, min(args.number, len(dataset)), dtype=int)).tolist()
        for number, start in enumerate(range(0, len(picked), ON_A_SHEET)):
            indices = picked[start : start + ON_A_SHEET]
            if cfg.model.type == "ImageClassifier":
                samples = list(browse.classifier_samples(cfg, dataset, indices))
            elif cfg.model.type == "MaskedImageModel":
                samples = list(browse.unlabelled_samples(dataset, indices))
            else:
                samples = list(browse.segmentation_samples(dataset, indices))
            save_png(Path(args.out) / f"sheet_{number:03d}.png", browse.sheet(samples))
        for old in sorted(Path(args.out).glob("sheet_[0-9][0-9][0-9].png"))[
            number + 1 :
        ]:  # of a call with more samples
            old.unlink()
        print(f"{len(picked)} of {len(dataset)} training samples: {args.out}")


if __name__ == "__main__":
    main()
