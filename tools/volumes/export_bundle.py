"""Exports a training run as a MONAI bundle.

Command: python tools/volumes/export_bundle.py RUN --out DIR [--checkpoint FILE]

RUN is the work folder of a training with a volume config. Writes to DIR: configs/ (train, evaluate, inference,
multi-GPU, metadata and its schema, arguments of the ONNX export), models/ (model.pt, and model.ts, TorchScript with the
metadata), docs/ and LICENSE. Commands for use in DIR:

  python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir MASKS
  python -m monai.bundle run --config_file configs/train.json --dataset_dir DATA
  python -m monai.bundle run --config_file "['configs/train.json','configs/evaluate.json']" --dataset_dir DATA
  python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath configs/schema.json
"""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vil_dense.command_line import plain_parser

if TYPE_CHECKING:
    from mmengine.config import Config

ROOT = Path(__file__).parents[2]
METRICS = dict(dice="Dice", hd95_mm="HD95", nsd="NSD")
"""Names of the means in the metadata, and in the log of a run."""


def scores(cfg: "Config", checkpoint: Path, step: int | None) -> dict[str, float | None]:
    """Reads the means of the validation at the step of a checkpoint, from the log of its run beside it.

    They are empty if no validation was logged there, or if it scored cases of the training.
    """
    from vil_dense.mm.engine.hooks.reports import read_scalars
    from vil_dense.mm.engine.resolve.volumes import scores_held_out

    curves = {key: read_scalars(str(checkpoint.parent), name) for key, name in METRICS.items()}
    found = {key: curve[step] for key, curve in curves.items() if step in curve}
    return {k: None if math.isnan(x) else x for k, x in found.items()} if scores_held_out(cfg) else {}


def card(cfg: "Config", checkpoint: Path, measured: dict[str, float | None]) -> str:
    """Returns the text of the model card."""
    from vil_dense.medical.label_map import LabelMap

    plan = cfg.model.plan
    rows = (
        "\n".join(f"- {name}: {value if value is None else round(value, 4)}" for name, value in measured.items())
        or "- none: no validation on cases that it was not trained on was logged at its step"
    )
    fold, data = cfg.get("fold", "not recorded"), Path(cfg.get("data_root") or "not recorded").name
    fold = "none, all cases were trained on" if fold in (None, "all") else fold
    return f"""# {cfg.model.network.type}

Segments {", ".join(LabelMap.of(plan).structures)} in {", ".join(plan["channels"])}.
Volumes are turned to {plan["orientation"]}, resampled to {" x ".join(map(str, plan["spacing_mm"]))} mm, and seen in
windows of {" x ".join(map(str, plan["patch_vox"]))} voxels.

## Training

Data: {data}. Held-out fold: {fold}. Checkpoint: {checkpoint.name}.
Validation at the step of this checkpoint, on the held-out cases:

{rows}

## Limits

For research, no medical device. Nothing is known of data from other scanners, protocols or populations.
The configs name classes of vil_dense, which has to be installed; models/model.ts runs without it.
"""


def training(cfg: "Config") -> dict[str, Any]:
    """Returns the options of the bundle's training, those of the run."""
    return dict(
        fold=cfg.fold if isinstance(cfg.get("fold"), int) else 0,
        datalist=cfg.get("datalist"),
        patient=cfg.get("patient"),
        augment=cfg.train_dataloader.dataset.get("augment"),
        batch_size=cfg.train_dataloader.batch_size,
        learning_rate=cfg.optim_wrapper.optimizer.lr,
        dice_weight=cfg.model.get("dice_weight", 1.0),
        boundary_weight=cfg.model.get("boundary_weight", 0.0),
    )


def main() -> int:
    known = plain_parser("Exports a training run as a MONAI bundle.")
    known.add_argument("run", help="work folder of a training")
    known.add_argument("--out", required=True, help="folder of the bundle")
    known.add_argument("--checkpoint", help="file of weights (default: the last checkpoint of the run)")
    args = known.parse_args()

    from torch import nn

    from vil_dense.layers.lora import merge_lora
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.cli.runs import run_config
    from vil_dense.mm.utils.run_folders import last_checkpoint
    from vil_dense.mm.utils.safe_load import load_exactly, load_safely, weights_of

    with report_errors(args.debug):
        run = Path(args.run)
        cfg = run_config(run)
        from vil_dense.medical.bundle import write_bundle
        from vil_dense.medical.data.plan_schema import read_plan
        from vil_dense.medical.inference.volume_windows import SlidingWindow
        from vil_dense.medical.networks.nets import build_network

        plan = cfg.model.plan = dict(read_plan(cfg.model.plan))
        if "first_stage" in plan:
            raise ValueError(
                f"{run} is the second stage of a cascade, and a bundle holds one network: predict with "
                "tools/volumes/predict.py, or export the first stage"
            )
        checkpoint = Path(args.checkpoint) if args.checkpoint else last_checkpoint(run)
        content = load_safely(str(checkpoint))
        weights = merge_lora(weights_of(content))
        network = build_network(plan, **cfg.model.network)
        load_exactly(nn.ModuleDict(dict(network=network)), weights, str(checkpoint))
        measured = scores(cfg, checkpoint, (content.get("meta") or {}).get("iter"))
        windows = SlidingWindow.of(plan, cfg.model.get("overlap", 0.5), cfg.model.get("window_batch", 1))
        texts = {"docs/README.md": card(cfg, checkpoint, measured), "LICENSE": (ROOT / "LICENSE").read_text()}
        options: dict[str, Any] = dict(
            windows=windows, training=training(cfg), about=dict(eval_metrics=measured), texts=texts
        )
        print(write_bundle(Path(args.out), plan, cfg.model.network, network, **options))
        if not isinstance(cfg.get("fold"), int):
            words = "the run held out no fold; evaluate.json scores fold 0, which the network was trained on"
            print(f"warning: {words}", file=sys.stderr)
        print(f"bundle written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
