"""Writes a trained segmentor of pictures as one file that loads without running code.

Command: python tools/publish_model.py RUN --out model.safetensors
         python tools/publish_model.py CONFIG CHECKPOINT --out FOLDER --licence apache-2.0

RUN is the work folder of a training; its best checkpoint is taken, or else the last one, with averaged weights (EMA)
where there are. The file holds the weights, the config of model, test pipeline and test data, classes, palette, label
map, metrics, licence and version. A folder gets it as model.safetensors, with config.json and a model card, as the
Hugging Face Hub has them. tools/predict.py and tools/test.py take the file or folder in place of config and checkpoint.
"""

import sys

from vil_dense.command_line import parser


def main() -> int:
    arguments = parser("Writes a trained segmentor of pictures as one file that loads without running code.")
    arguments.add_argument("checkpoint", nargs="?", help="checkpoint file, after a config")
    arguments.add_argument("--out", required=True, help="file that ends in .safetensors, or folder")
    arguments.add_argument("--name", default="", help="of the model, for its card (default: that of the config)")
    arguments.add_argument("--licence", default="", help="of the weights, e.g. apache-2.0")
    args = arguments.parse_args()

    from pathlib import Path

    from vil_dense.files import check_folders
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.inference.segmentor import Segmentor
    from vil_dense.mm.publish.command_line import read_model
    from vil_dense.mm.publish.published import publish
    from vil_dense.mm.publish.trained_model import with_record

    with report_errors(args.debug):
        check_folders(Path(args.out).parent)
        trained, _ = read_model(args, [args.checkpoint] if args.checkpoint else [])
        publish(with_record(trained), args.out, name=args.name, licence=args.licence)
        written = Segmentor.load(args.out, device="cpu")
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in written.trained.metrics.items()) or "no metrics"
        print(f"weights: {trained.name}")
        print(f"written: {args.out} ({len(written.classes)} classes, {metrics})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
