"""Predicts many cases into one folder; an interrupted run goes on where it stopped.

DIR/masks/NAME.nii.gz, DIR/overlays/NAME.png, on request DIR/probabilities/NAME.nii.gz, DIR/dicom_seg/NAME.dcm,
DIR/rtstruct/NAME.dcm and the maps of `uncertainty` (DIR/entropy/NAME.nii.gz), and, written last,
DIR/reports/NAME.json: a case with a report is done. DIR/settings.json says with what it was made, DIR/volumes.csv and
DIR/uncertainty.csv have the reports of the cases of the last call.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from torch import nn

from vil_dense.files import read_json, save_csv, save_json, save_png
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.inference.ensemble import Configuration, scratch_array
from vil_dense.medical.inference.predictor import VolumePredictor
from vil_dense.medical.inference.probabilities import Probabilities, probability_file
from vil_dense.medical.inference.report import describe_mask
from vil_dense.medical.inference.uncertainty import summarise_maps
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.dicom.masks import DICOM_MASKS
from vil_dense.medical.io.dicom.references import check_dicom
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.volumes import (
    at_frame,
    check_channels,
    read_grid,
    read_image,
    source_files,
    write_mask,
)
from vil_dense.medical.pages.overlays import draw_case, intensity_window
from vil_dense.medical.postprocess import Steps
from vil_dense.progress import Progress

UNREADABLE = (OSError, ValueError, ArithmeticError, MemoryError)
"""Errors of a file that must not cost the other cases."""


class Survey(NamedTuple):
    """Lists what a run will do: of all `cases` those `todo`; by name of a case its grid, its number of windows, or a
    sentence that says why it cannot be read."""

    cases: Sequence[Case]
    todo: Sequence[Case]
    grids: dict[str, Grid]
    windows: dict[str, int]
    failed: dict[str, str]

    def largest(self, plan: Plan) -> Grid | None:
        """Returns the grid whose prediction needs the most memory."""
        sizes = {
            name: math.prod(grid.shape) + math.prod(PlanGrid.over(grid.shape, grid.affine, plan).shape)
            for name, grid in self.grids.items()
        }
        return self.grids[max(sizes, key=sizes.__getitem__)] if sizes else None


class Folder:
    """Predicts cases into a folder.

    Args:
        out: the folder.
        networks: in eval mode on `device`, see `volume_predictor.predict`.
        plan: see `plan_schema`.
        windows: default: the plan's patch, overlapping by half.
        settings: what else the result depends on (checkpoints, options), as plain values: goes to settings.json.
        others: further configurations, whose probabilities are averaged with those of `networks`.
        mirror, largest, steps: see `predictor.VolumePredictor`.
        probabilities: which class probabilities are written; they are those before the steps.
        dicom: forms of `DICOM_MASKS` that are written for each case as well, whose image has to be DICOM.
        uncertainty: whether to write the maps of `VolumePredictor.measures`, and their means over the mask of a case.

    Raises:
        ValueError: the folder holds what was made with other settings; see also `probabilities.Probabilities` and
            `predictor.VolumePredictor`.
    """

    def __init__(
        self,
        out: Path,
        networks: Sequence[nn.Module],
        plan: Plan,
        settings: Mapping[str, Any],
        *,
        windows: SlidingWindow | None = None,
        others: Sequence[Configuration] = (),
        device: torch.device | str = "cpu",
        mirror: bool = False,
        largest: bool = False,
        steps: Steps | None = None,
        probabilities: Probabilities | None = None,
        dicom: Collection[str] = (),
        uncertainty: bool = False,
    ) -> None:
        self.predictor = VolumePredictor(
            networks, plan, windows, others=others, device=device, mirror=mirror, largest=largest, steps=steps
        )
        self.out, self.plan, self.probabilities, self.dicom = out, plan, probabilities, sorted(dicom)
        self.configurations = self.predictor.configurations
        self.measures = self.predictor.measures if uncertainty else ()
        if probabilities:
            probabilities.classes(plan)  # a name that the plan lacks is an error now, not after the first case
        options: dict[str, Any] = dict(
            overlap=self.configurations[0].windows.overlap,
            mirror=mirror,
            steps=self.predictor.steps,
            probabilities=asdict(probabilities) if probabilities else None,
        )
        if dicom:
            options["dicom"] = self.dicom
        if uncertainty:
            options["uncertainty"] = self.measures
        if others:
            options["others"] = [dict(plan=other.plan, overlap=other.windows.overlap) for other in others]
        # as JSON gives it back
        self.settings = json.loads(json.dumps(dict(settings) | dict(plan=plan) | options))
        path = out / "settings.json"
        if path.is_file():
            before = read_json(path)
            changed = [key for key in self.settings if before.get(key) != self.settings[key]]
            if changed:
                raise ValueError(
                    f"{out} holds predictions of another {' and '.join(changed)}: choose another --out, or delete it"
                )

    def survey(self, cases: Sequence[Case]) -> Survey:
        """Reads the headers of the cases that are still to do."""
        todo = [case for case in cases if not self._is_done(case)]
        survey = Survey(cases, todo, {}, {}, {})
        for case in todo:
            try:
                grids = [at_frame(read_grid(path), case.frame) for path in case.images]
                check_channels(grids, len(self.plan["channels"]))
                if self.dicom:
                    check_dicom(grids[0])
            except UNREADABLE as error:
                survey.failed[case.name] = _fault(case, error)
            else:
                survey.grids[case.name] = grids[0]
                survey.windows[case.name] = sum(
                    windows.count(PlanGrid.over(grids[0].shape, grids[0].affine, plan).shape)
                    for configuration in self.configurations
                    for _, plan, windows in configuration.stages
                )
        return survey

    def predict_all(self, survey: Survey, stream: TextIO | None = None) -> dict[str, str]:
        """Predicts what is to do; returns a sentence for each case that could not be read.

        Args:
            survey: of `survey`.
            stream: takes the progress (default: stderr).

        Raises:
            OSError: something could not be written; nothing half written is left.
        """
        failed = dict(survey.failed)
        todo = [case for case in survey.todo if case.name in survey.windows]
        done, total = 0, sum(survey.windows.values())
        with Progress("windows", stream=stream) as progress:
            for number, case in enumerate(todo, 1):
                note = f"case {number} of {len(todo)} ({case.name})"
                try:
                    nan = self.plan.get("nan_background")
                    image, grid = read_image(case.images, len(self.plan["channels"]), frame=case.frame, nan=nan)
                except UNREADABLE as error:
                    failed[case.name] = _fault(case, error)
                    progress(done + survey.windows[case.name], total, note)
                else:
                    report = partial(_report_next, progress, count(done + 1), total, note)
                    if problem := self._write(case, image, grid, report):
                        failed[case.name] = problem
                    del image  # before the next one is read
                done += survey.windows[case.name]
        self._gather(survey.cases)
        return failed

    def _write(self, case: Case, image: np.ndarray, grid: Grid, done: Callable[[], None]) -> str:
        """Writes mask, overlay, probabilities and, last, the report of one case.

        Returns:
            Why there is no report, if the headers of a DICOM series suit no DICOM mask; the mask stays.
        """
        save_json(self.out / "settings.json", self.settings)
        labels = self.predictor.written
        with self._probabilities(case, grid) as array, self._maps(grid) as maps:
            mask = self.predictor.segment(image, grid, array, uncertainty=maps, scratch=self.out, done=done)
            numbers = None
            if maps is not None:
                numbers = summarise_maps(maps, mask)
                for number, name in enumerate(self.measures):
                    write_mask(self.out / name / f"{case.name}.nii.gz", maps[..., number], grid)
        write_mask(self.out / "masks" / f"{case.name}.nii.gz", mask, grid)
        try:
            for form in self.dicom:
                DICOM_MASKS[form](self.out / form / f"{case.name}.dcm", mask, grid, labels)
        except ValueError as error:
            return str(error)
        window = intensity_window(image[0], self.plan["intensity"][0])
        overlay = draw_case(case.name, image[0], mask, grid.affine, labels, window=window)
        save_png(self.out / "overlays" / f"{case.name}.png", overlay)
        rows = describe_mask(mask, labels, grid)
        sources = [fingerprint(path) for path in case.images]
        report = dict(case=case.name, sources=sources, frame=case.frame, structures=rows, uncertainty=numbers)
        save_json(self._report(case), report)
        return ""

    def _probabilities(self, case: Case, grid: Grid) -> AbstractContextManager[np.ndarray | None]:
        """Gives the array for the probabilities of a case; None if none are requested."""
        if self.probabilities is None:
            return nullcontext()
        path = self.out / "probabilities" / f"{case.name}.nii.gz"
        return probability_file(path, grid, self.plan, self.probabilities)

    def _maps(self, grid: Grid) -> AbstractContextManager[np.ndarray | None]:
        """Gives the array for the maps of uncertainty of a case; None if none are requested."""
        if not self.measures:
            return nullcontext()
        return scratch_array((*grid.shape, len(self.measures)), self.out, np.float32)

    def _report(self, case: Case) -> Path:
        return self.out / "reports" / f"{case.name}.json"

    def _is_done(self, case: Case) -> bool:
        """Returns whether a case has all of its files, made from the images as they are now."""
        path = self._report(case)
        if not path.is_file() or not all(image.exists() for image in case.images):
            return False
        made = [f"masks/{case.name}.nii.gz", f"overlays/{case.name}.png"]
        made += [f"probabilities/{case.name}.nii.gz"] if self.probabilities else []
        made += [f"{form}/{case.name}.dcm" for form in self.dicom]
        made += [f"{name}/{case.name}.nii.gz" for name in self.measures]
        sources = [fingerprint(image) for image in case.images]
        return all((self.out / name).is_file() for name in made) and read_json(path).get("sources") == sources

    def _gather(self, cases: Sequence[Case]) -> None:
        """Writes volumes.csv, and uncertainty.csv where it was measured, from the reports of the finished ones."""
        reports = [read_json(self._report(case)) for case in cases if self._is_done(case)]
        rows = [dict(case=report["case"]) | row for report in reports for row in report["structures"]]
        if rows:
            save_csv(self.out / "volumes.csv", rows)
        if reports and self.measures:
            empty = dict.fromkeys(self.measures)  # nothing was found, so there is no voxel to average over
            numbers = [dict(case=report["case"]) | (report["uncertainty"] or empty) for report in reports]
            save_csv(self.out / "uncertainty.csv", numbers)


def _fault(case: Case, error: Exception) -> str:
    """Returns a sentence on an image that cannot be read; Python's own MemoryError has no message."""
    return str(error) or f"{case.images[0]} cannot be read ({type(error).__name__})"


def _report_next(progress: Progress, windows: Iterator[int], total: int, note: str) -> None:
    """Reports the next of `windows` as done."""
    progress(next(windows), total, note)


def fingerprint(path: Path) -> dict[str, Any]:
    """Returns what tells an image from another one that takes its place: path, bytes, time, and a hash of its start.

    Of a DICOM series, or a header with a file of voxels, bytes are the sum over the files, time is that of the newest
    one, and the hash is of all starts.
    """
    files = source_files(path)
    start = hashlib.sha256()
    for source in files:
        with source.open("rb") as file:
            start.update(file.read(2**16))
    status = [file.stat() for file in files]
    size, newest = sum(one.st_size for one in status), max(one.st_mtime_ns for one in status)
    return dict(path=str(path.resolve()), bytes=size, modified_ns=newest, start=start.hexdigest())
