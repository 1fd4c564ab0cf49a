"""Exports a trained segmentor of pictures as one file for other runtimes, and checks it before it is written.

Command: python tools/export_onnx.py MODEL --out model.onnx
         python tools/export_onnx.py CONFIG CHECKPOINT --out model.onnx --with-preprocessing

MODEL is as in tools/predict.py. The file holds backbone, neck, head and the resize to the size of the input: windows,
normalised, (B, C, H, W) float32, become logits (B, K, H, W). With --with-preprocessing uint8 RGB pictures (B, H, W, C)
become classes (B, H, W). Batch, height and width may vary. The file is written if its results at five sizes are those
of the segmentor; tools/predict.py runs an .onnx file of logits by onnxruntime.
"""

import sys
import time

from vil_dense.command_line import parser

FORMATS = ["onnx", "pt2", "torchscript"]
LAYOUTS = ["NHWC", "NCHW"]


def main() -> int:
    arguments = parser("Exports a trained segmentor of pictures as one file for other runtimes.")
    arguments.add_argument("checkpoint", nargs="?", help="checkpoint file, after a config")
    arguments.add_argument("--out", required=True, help="file that ends in .onnx, .pt2 or .ts")
    arguments.add_argument("--format", choices=FORMATS, default="onnx", help="ONNX, torch.export or TorchScript (onnx)")
    arguments.add_argument(
        "--with-preprocessing",
        nargs="?",
        choices=LAYOUTS,
        const="NHWC",
        help="take uint8 RGB pictures of this layout (NHWC) and give classes",
    )
    arguments.add_argument("--name", default="", help="of the model (default: that of the config)")
    arguments.add_argument("--licence", default="", help="of the weights, e.g. apache-2.0")
    args = arguments.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.mm.export.onnx import OPSET
    from vil_dense.mm.export.write import export
    from vil_dense.mm.publish.command_line import read_model
    from vil_dense.mm.publish.trained_model import with_record

    with report_errors(args.debug):
        start = time.monotonic()

        def say(step: str) -> None:
            print(f"{time.monotonic() - start:6.1f} s: {step}", flush=True)

        say("reading the model")
        trained, _ = read_model(args, [args.checkpoint] if args.checkpoint else [])
        exported = export(
            with_record(trained),
            args.out,
            format=args.format,
            layout=args.with_preprocessing,
            name=args.name,
            licence=args.licence,
            say=say,
        )
        for agreement in exported.agreements:
            print(f"checked: {agreement}")
        shape = " x ".join(map(str, exported.agreements[0].shape))
        print(f"time of {shape}: eager {exported.eager_seconds:.3f} s, exported {exported.exported_seconds:.3f} s")
        version = f", opset {OPSET}" if args.format == "onnx" else ""
        print(f"written: {args.out} ({exported.size / 2**20:.1f} MiB{version})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
