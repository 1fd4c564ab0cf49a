"""Segments volumes with a trained network.

Command: python tools/volumes/predict.py CONFIG CHECKPOINT [CHECKPOINT ...] INPUT --out DIR

INPUT is a NIfTI file, a folder of them, or a data list (JSON of the Decathlon or of MONAI; --section and --fold choose
from it). Writes to DIR for each case:

  masks/NAME.nii.gz         classes on the grid of the image, with its header
  overlays/NAME.png         axial, coronal and sagittal plane with the mask over the image
  reports/NAME.json         ml, components and "touches the border" of each structure; all cases in volumes.csv
  probabilities/NAME.nii    with --probabilities: (I, J, K, classes), 16 bits from 0 to 1

The scores of several checkpoints are averaged. A stopped run resumes with the same command. Scores are never stored for
a whole volume; the estimated memory is printed before the run, and the peak after it.
"""

import argparse
import hashlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vil_dense.command_line import parser
from vil_dense.files import check_folders

if TYPE_CHECKING:
    from mmengine.config import Config

    from vil_dense.medical.inference.batch import Survey
    from vil_dense.mm.volumes.segmentor import VolumeSegmentor


def networks(cfg: "Config", checkpoints: list[str], device: str) -> "list[VolumeSegmentor]":
    """Builds the config's segmentor with the weights of each checkpoint, in eval mode."""
    from mmengine.registry import MODELS

    from vil_dense.mm.utils.safe_load import load_exactly, load_safely, weights_of

    if cfg.model.type != "VolumeSegmentor":
        raise ValueError(f"{cfg.filename} segments no volumes: its model is a {cfg.model.type}, not a VolumeSegmentor")
    cfg.model.pop("picture_weights", None)  # the initial weights of training
    found = []
    for checkpoint in checkpoints:
        weights = weights_of(load_safely(checkpoint))
        model = MODELS.build(cfg.model)
        load_exactly(model, weights, checkpoint)
        found.append(model.to(device).eval())
    return found


def describe_survey(survey: "Survey", models: "list[VolumeSegmentor]", device: str) -> None:
    """Prints the number of finished cases and the memory of the largest volume; warns if less is free."""
    from vil_dense.backbones.memory import GIB, free_memory
    from vil_dense.medical.inference.volume_memory import estimate

    if len(survey.todo) < len(survey.cases):
        print(
            f"{len(survey.cases) - len(survey.todo)} of {len(survey.cases)} cases are already finished and are skipped"
        )
    for grid in survey.grids.values():
        if grid.warning:
            print(f"warning: {grid.path}: {grid.warning}", file=sys.stderr)
    largest = survey.largest(models[0].plan)
    if largest is None:
        return
    expected = estimate(models, largest, models[0].plan, models[0].windows)
    windows = max(survey.windows.values())
    print(f"largest volume: {' x '.join(map(str, largest.shape))} voxels, {windows} windows; memory: {expected}")
    for where, needed in (("cpu", expected.total), (device, expected.gpu_total)):
        free = free_memory(where)
        if free is not None and needed > free:
            print(f"warning: {free / GIB:.1f} GiB are free{' on the GPU' * (where != 'cpu')}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser("Segments volumes with a trained network.")
    known.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="checkpoint files of this config's model")
    known.add_argument("input", metavar="INPUT", help="NIfTI file, folder of NIfTI files, or data list (JSON)")
    known.add_argument("--out", required=True, help="folder for masks, overlays and reports")
    known.add_argument("--mirror", action="store_true", help="average over mirror images; eight times slower")
    known.add_argument("--largest", action="store_true", help="keep only the largest component of each structure")
    known.add_argument("--probabilities", action="store_true", help="also write class probabilities")
    known.add_argument("--section", help="list in the JSON, e.g. training (default: the first of testing, test, ...)")
    known.add_argument("--fold", type=int, help="only cases of this fold of the JSON")
    return known.parse_args()


def main() -> int:
    args = arguments()

    import torch

    from vil_dense.backbones.memory import GIB
    from vil_dense.mm.cli.arguments import read_config, report_errors
    from vil_dense.mm.engine.resolve_config import resolve_plan

    with report_errors(args.debug):
        cfg = read_config(args)
        check_folders(args.out)
        resolve_plan(cfg)
        # importing the config has checked that monai is installed
        from vil_dense.medical.datalists.inputs import describe_inputs, find_cases
        from vil_dense.medical.inference.batch import Folder

        device = "cuda" if torch.cuda.is_available() else "cpu"
        models = networks(cfg, args.checkpoints, device)
        plan = models[0].plan
        cases = find_cases(Path(args.input), len(plan["channels"]), args.section, args.fold, cfg.get("patient"))
        for line in describe_inputs(Path(args.input), cases, len(plan["channels"])):
            print(f"warning: {line}", file=sys.stderr)
        paths = [Path(path) for path in args.checkpoints]
        settings = dict(checkpoints=[f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths])
        options = dict(
            windows=models[0].windows, mirror=args.mirror, largest=args.largest, probabilities=args.probabilities
        )
        folder = Folder(Path(args.out), models, plan, settings, device=device, **options)
        survey = folder.survey(cases)
    with report_errors(args.debug, code=1):
        describe_survey(survey, models, device)
        failed = folder.predict_all(survey)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        gpu = f", on the GPU {torch.cuda.max_memory_allocated() / GIB:.2f} GiB" if device == "cuda" else ""
        print(f"peak memory: {peak / GIB:.2f} GiB{gpu}")
        of_all = f"of {len(cases)} volume{'s' * (len(cases) != 1)}"
        print(f"{len(cases) - len(failed)} {of_all} segmented in {args.out}")
        if failed:
            print(
                f"error: {len(failed)} {of_all} could not be segmented: {'; '.join(failed.values())}", file=sys.stderr
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
