"""Draws training images of a classifier as one PNG.

Command: python tools/analysis/show_batch.py CONFIG --out FILE.png [--pictures N]

Each batch has three rows: pictures as in the test, augmented, and mixed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vil_dense.command_line import at_least, parser
from vil_dense.files import check_file, save_png

if TYPE_CHECKING:
    from mmengine.config import Config

    from vil_dense.mm.datasets.seeding import SampleKey


def stages(cfg: "Config", keys: "list[SampleKey]") -> list[np.ndarray]:
    """Returns the training pictures `keys` as tested, augmented and mixed, each (B, H, W, 3) uint8."""
    from mmengine.registry import DATASETS, MODELS
    from torch.utils.data import default_collate

    train = cfg.train_dataloader.dataset
    plain, augmented = (
        default_collate([dataset[key] for key in keys])
        for dataset in (
            DATASETS.build({**train, "pipeline": cfg.val_dataloader.dataset.pipeline}),
            DATASETS.build(train),
        )
    )
    preprocessor = MODELS.build({**cfg.model.data_preprocessor, "num_classes": cfg.model.num_classes})
    mixed = preprocessor(augmented, training=True)["inputs"]
    if preprocessor.normalises:
        mixed = mixed * preprocessor.std + preprocessor.mean
    rows = plain["inputs"], augmented["inputs"], mixed.round().clamp(0, 255).byte()
    return [row.movedim(1, -1).numpy() for row in rows]


def main() -> None:
    arguments = parser("Draws training images of a classifier as one PNG.")
    arguments.add_argument("--out", required=True, help="PNG to write")
    arguments.add_argument("--pictures", type=at_least(1), default=10, help="pictures in a row (10)")
    arguments.add_argument(
        "--batches", type=at_least(1), default=3, help="batches, each of which is mixed by itself (3)"
    )
    args = arguments.parse_args()

    import torch
    from mmengine.registry import DATASETS

    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.datasets.seeding import SampleKey
    from vil_dense.mm.engine.resolve_config import resolve_classes
    from vil_dense.mm.visualization import draw

    with report_errors(args.debug):
        check_file(args.out)
        cfg = read_config(args)
        resolve_classes(cfg)
        torch.manual_seed(0)
        count = len(DATASETS.build(cfg.train_dataloader.dataset))
        picked = np.random.default_rng(0).permutation(count)[: args.pictures]
        rows = [
            row
            for batch in range(args.batches)
            for row in stages(cfg, [SampleKey(int(index), 0, batch) for index in picked])
        ]
        save_png(Path(args.out), draw.stack([np.hstack(list(row)) for row in rows]))
        print(f"{args.batches} batches of {len(picked)} pictures, as tested, augmented and mixed: {args.out}")


if __name__ == "__main__":
    main()
