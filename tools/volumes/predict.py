"""Segments volumes with trained networks.

Command: python tools/volumes/predict.py CONFIG CHECKPOINT [CHECKPOINT ...] INPUT --out DIR
         python tools/volumes/predict.py RUN [RUN ...] INPUT --out DIR
         python tools/volumes/predict.py --best best.json INPUT --out DIR

RUN is the work folder of a training, whose last checkpoint is taken, or that of a cross-validation for the networks
of all its folds. best.json is the choice of find_best.py. INPUT is a volume (NIfTI, NRRD, MetaImage, a folder of one
DICOM series, ...), a folder of them, a data list (JSON of the Decathlon or of MONAI; --section and --fold choose from
it), or with --fold the folder of a data set. Writes to DIR for each case:

  masks/NAME.nii.gz         classes on the grid of the image, with its header
  overlays/NAME.png         axial, coronal and sagittal plane with the mask over the image
  reports/NAME.json         ml, components and "touches the border" of each structure; of all in volumes.csv
  report.html               a page that opens from disk: overlays, volumes, uncertainty
  probabilities/NAME.nii.gz with --probabilities: (I, J, K, classes) from 0 to 1, of all classes or of those named
  entropy/NAME.nii.gz       with --uncertainty: entropy of the mean probabilities, 0 (sure) to 1; of several networks
                            also mutual_information/NAME.nii.gz; their means over each mask in uncertainty.csv
  dicom_seg/NAME.dcm        with --dicom-seg: the mask as a DICOM segmentation of the slices of a DICOM series
  rtstruct/NAME.dcm         with --rtstruct: the mask as a DICOM structure set, contours on the slices in mm

Networks of one configuration are averaged on its own grid (logits); several configurations on the grid of the file
(probabilities), where each counts the same. A stopped run resumes with the same command. Scores are never stored for
a whole volume; the estimated memory is printed before the run, and the peak after it.
"""

import argparse
import resource
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vil_dense.command_line import parser
from vil_dense.files import check_folders

if TYPE_CHECKING:
    from vil_dense.medical.datalists.datalist import Case
    from vil_dense.medical.inference.batch import Folder, Survey
    from vil_dense.medical.inference.ensemble import Configuration


class Networks(NamedTuple):
    """Stores the options of each configuration, its checkpoints, the steps after a prediction, and how the name of a
    case gives its patient."""

    models: list[dict[str, Any]]
    checkpoints: list[list[Path]]
    steps: Mapping[str, Mapping[str, Any]]
    patient: str | None


def read_networks(args: argparse.Namespace) -> Networks:
    """Reads the networks that the command line names."""
    if args.best:
        return of_choice(Path(args.best))
    if args.config is None or not (args.checkpoints or Path(args.config).is_dir()):
        missing = f"nothing is at {args.config}; " if args.config and not Path(args.config).exists() else ""
        raise ValueError(f"{missing}expected CONFIG CHECKPOINT INPUT, RUN INPUT or --best FILE INPUT")
    return of_runs(args) if Path(args.config).is_dir() else of_config(args)


def of_config(args: argparse.Namespace) -> Networks:
    """Reads a config and its checkpoints."""
    from vil_dense.mm.cli.arguments import read_config
    from vil_dense.mm.cli.runs import check_volumes
    from vil_dense.mm.engine.resolve.volumes import resolve_plan

    if folders := [path for path in args.checkpoints if Path(path).is_dir()]:
        raise ValueError(f"{folders[0]} is a folder, and a checkpoint of {args.config} was expected")
    cfg = read_config(args)
    resolve_plan(cfg)
    check_volumes(cfg)
    return Networks([cfg.model.to_dict()], [[Path(path) for path in args.checkpoints]], {}, cfg.get("patient"))


def of_runs(args: argparse.Namespace) -> Networks:
    """Reads work folders of trainings; those whose networks and plans are equal are one configuration."""
    from vil_dense.mm.cli.runs import run_config
    from vil_dense.mm.utils.run_folders import find_runs
    from vil_dense.mm.volumes.predictor import predicting

    if args.cfg_options:
        raise ValueError("--cfg-options change CONFIG, and a RUN has its own: name its config and checkpoint instead")
    found = Networks([], [], {}, None)
    for run, checkpoint in (one for path in (args.config, *args.checkpoints) for one in find_runs(Path(path))):
        cfg = run_config(run)
        model = predicting(cfg.model.to_dict())
        if model not in found.models:
            found.models.append(model)
            found.checkpoints.append([])
        found.checkpoints[found.models.index(model)].append(checkpoint)
        found = found._replace(patient=cfg.get("patient"))
        if args.fold is not None and cfg.get("fold") != args.fold:
            print(f"warning: the network of {run} was trained on cases of fold {args.fold}", file=sys.stderr)
    return found


def of_choice(path: Path) -> Networks:
    """Reads a choice of find_best.py."""
    from vil_dense.medical.cross_validations import read_chosen

    chosen = read_chosen(path)
    return Networks(
        [dict(model) for model in chosen.models], [list(files) for files in chosen.checkpoints], chosen.steps, None
    )


def describe_survey(
    survey: "Survey", configurations: "list[Configuration]", device: str, uncertainty: bool = False
) -> None:
    """Prints the number of finished cases and the memory of the largest volume; warns if less is free."""
    from vil_dense.cost.memory import GIB, free_memory
    from vil_dense.medical.inference.volume_memory import estimate

    if len(survey.todo) < len(survey.cases):
        print(
            f"{len(survey.cases) - len(survey.todo)} of {len(survey.cases)} cases are already finished and are skipped"
        )
    for grid in survey.grids.values():
        if grid.warning:
            print(f"warning: {grid.path}: {grid.warning}", file=sys.stderr)
    largest = survey.largest(configurations[0][1])
    if largest is None:
        return
    by_network = uncertainty and len(configurations) == 1  # else the scores of the networks are averaged in place
    estimates = [
        estimate(networks, largest, plan, windows, len(networks) if by_network else 1)
        for networks, plan, windows in configurations
    ]
    weights = sum(one.weights for one in estimates)  # with those of first stages, which the networks hold
    firsts = (configuration.first_stage for configuration in configurations)
    estimates += [estimate(first.networks, largest, first.plan, first.windows) for first in firsts if first]
    expected = max(estimates, key=lambda one: one.total)._replace(weights=weights)
    windows = max(survey.windows.values())
    sizes = f"{' x '.join(map(str, largest.shape))} voxels, {windows} window{'s' * (windows != 1)}"
    print(f"largest volume: {sizes}; memory: {expected}")
    for where, needed in (("cpu", expected.total), (device, expected.gpu)):
        free = free_memory(where)
        if free is not None and needed > free:
            print(f"warning: {free / GIB:.1f} GiB are free{' on the GPU' * (where != 'cpu')}", file=sys.stderr)


def describe_time(survey: "Survey", configurations: "list[Configuration]", mirror: bool, device: str) -> str:
    """Returns a line with the time of all windows; where configurations differ, with their mean."""
    from vil_dense.medical.data.mirroring import mirror_axes
    from vil_dense.medical.inference.volume_memory import window_seconds
    from vil_dense.medical.inference.volume_windows import SlidingWindow
    from vil_dense.medical.networks.nets import input_channels

    times = []
    for networks, plan, windows in (stage for configuration in configurations for stage in configuration.stages):
        views = len(networks) * (2 ** len(mirror_axes(plan)) if mirror else 1)
        times.append(views * window_seconds(networks[0], input_channels(plan), windows or SlidingWindow.of(plan)))
    seconds = sum(survey.windows.values()) * sum(times) / len(times)
    return f"time: about {seconds:.2g} {'' if device == 'cuda' else 'CPU '}s for the windows of all volumes"


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser("Segments volumes with trained networks.", config="?")
    known.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="checkpoints of the config, or more RUNs")
    known.add_argument("input", metavar="INPUT", help="volume, folder of volumes or of a DICOM series, or data list")
    known.add_argument("--best", metavar="FILE", help="choice of find_best.py, in place of CONFIG and CHECKPOINT")
    known.add_argument("--out", required=True, help="folder for masks, overlays and reports")
    known.add_argument("--mirror", action="store_true", help="average over mirror images; eight times slower")
    known.add_argument("--largest", action="store_true", help="keep only the largest component of each structure")
    known.add_argument(
        "--probabilities", nargs="*", metavar="CLASS", help="also write probabilities: of all, or of these"
    )
    known.add_argument("--probability-bits", type=int, choices=(8, 16), default=16, help="of each (default: 16)")
    known.add_argument(
        "--uncertainty", action="store_true", help="also write maps of the uncertainty, and a number a case"
    )
    known.add_argument("--dicom-seg", action="store_true", help="also write DICOM segmentations, of DICOM input")
    known.add_argument("--rtstruct", action="store_true", help="also write DICOM structure sets, of DICOM input")
    known.add_argument("--series", metavar="UID", help="series of a folder that holds several DICOM series")
    known.add_argument("--frame", metavar="N", help="a number from 0, or all: volumes of a series in time (4D)")
    known.add_argument("--section", help="list in the JSON, e.g. training (default: the first of testing, test, ...)")
    known.add_argument("--fold", type=int, help="only cases of this fold of the data")
    args = known.parse_intermixed_args()
    if args.best and args.config:
        known.error(f"argument --best: not allowed with {args.config}, it names its networks itself")
    if args.best and (args.largest or args.fold is not None):
        known.error("argument --best: not allowed with --largest and --fold")
    return args


def read_cases(args: argparse.Namespace, patient: str | None, channels: int) -> "list[Case]":
    """Finds the cases of the input, and warns of files that are left out or look like channels."""
    from vil_dense.medical.datalists.inputs import by_frame, describe_inputs, find_cases

    source = Path(args.input)
    cases = find_cases(source, channels, args.section, args.fold, patient, args.series)
    if args.section is None and args.fold is None:  # else the other files are left out on purpose
        for line in describe_inputs(source, cases, channels):
            print(f"warning: {line}", file=sys.stderr)
    return cases if args.frame is None else by_frame(cases, args.frame)


def make_folder(args: argparse.Namespace, found: Networks, device: str) -> "Folder":
    """Loads the networks, and returns the folder of predictions that the command line describes."""
    from vil_dense.files import sha256
    from vil_dense.medical.inference.batch import Folder
    from vil_dense.medical.inference.probabilities import Probabilities
    from vil_dense.medical.io.dicom.masks import DICOM_MASKS
    from vil_dense.mm.volumes.predictor import load_configuration

    groups = zip(found.models, found.checkpoints, strict=True)
    first, *others = (load_configuration(model, checkpoints, device) for model, checkpoints in groups)
    chosen = None if args.probabilities is None else Probabilities(args.probabilities, args.probability_bits)
    return Folder(
        Path(args.out),
        first.networks,
        first.plan,
        dict(checkpoints=[f"{path.name} {sha256(path)}" for paths in found.checkpoints for path in paths]),
        windows=first.windows,
        others=others,
        device=device,
        mirror=args.mirror,
        largest=args.largest,
        steps=found.steps,
        probabilities=chosen,
        dicom=[form for form in DICOM_MASKS if getattr(args, form)],
        uncertainty=args.uncertainty,
    )


def main() -> int:
    args = arguments()

    import torch

    from vil_dense.cost.memory import GIB
    from vil_dense.mm.cli.arguments import report_errors

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with report_errors(args.debug):
        check_folders(args.out)
        found = read_networks(args)
        # reading the networks has checked that monai is installed
        from vil_dense.medical.pages.write import save_prediction_page

        folder = make_folder(args, found, device)
        cases = read_cases(args, found.patient, len(folder.plan["channels"]))
        survey = folder.survey(cases)
    with report_errors(args.debug, code=1):
        describe_survey(survey, folder.configurations, device, args.uncertainty)
        if survey.windows:
            print(describe_time(survey, folder.configurations, args.mirror, device))
        failed = folder.predict_all(survey)
        if len(failed) < len(cases):
            print(f"report: {save_prediction_page(folder.out, shlex.join(['python', *sys.argv]))}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        gpu = f", on the GPU {torch.cuda.max_memory_allocated() / GIB:.2f} GiB" if device == "cuda" else ""
        print(f"peak memory: {peak / GIB:.2f} GiB{gpu}")
        of_all = f"of {len(cases)} volume{'s' * (len(cases) != 1)}"
        print(f"{len(cases) - len(failed)} {of_all} segmented in {args.out}")
        if failed:
            faults = "; ".join(failed.values())
            print(f"error: {len(failed)} {of_all} could not be segmented: {faults}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
