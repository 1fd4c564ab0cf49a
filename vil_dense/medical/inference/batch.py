"""Predicts many cases into one folder; an interrupted run goes on where it stopped.

DIR/masks/NAME.nii.gz, DIR/overlays/NAME.png, DIR/probabilities/NAME.nii (on request) and, written last,
DIR/reports/NAME.json: a case with a report is done. DIR/settings.json says with what it was made, DIR/volumes.csv has
all reports.
"""

import glob
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from vil_dense.medical.inference.ensemble import Configuration, check_configurations, predict_mean
from vil_dense.medical.inference.volume_predictor import PROBABILITY_STEPS
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.nifti import Grid, check_channels, mask_header, read_grid, read_image, write_mask
from vil_dense.medical.postprocess import Steps, check_steps, largest_alone, postprocess
from vil_dense.medical.report import describe_mask, three_planes
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
        mirror, largest, probabilities: average over mirror images; keep the largest component of each structure; write
            class probabilities.
        steps: of `postprocess`, instead of `largest`. Probabilities are those before these steps.

    Raises:
        ValueError: the folder holds what was made with other settings, or the configurations differ in their classes.
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
        probabilities: bool = False,
    ) -> None:
        self.out, self.plan, self.device = out, plan, device
        windows = windows or SlidingWindow.of(plan)
        self.configurations = [Configuration(networks, plan, windows), *others]
        check_configurations(self.configurations)
        self.steps = largest_alone(plan["labels"]) if largest else steps or {}
        check_steps(self.steps, plan["labels"])
        self.mirror, self.probabilities = mirror, probabilities
        options: dict[str, Any] = dict(
            overlap=windows.overlap, mirror=mirror, steps=self.steps, probabilities=probabilities
        )
        if others:
            options["others"] = [dict(plan=other.plan, overlap=other.windows.overlap) for other in others]
        # as JSON gives it back
        self.settings = json.loads(json.dumps(_plain(dict(settings) | dict(plan=plan) | options)))
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
                grids = [read_grid(path) for path in case.images]
                check_channels(grids, len(self.plan["channels"]))
            except UNREADABLE as error:
                survey.failed[case.name] = str(error) or type(error).__name__
            else:
                survey.grids[case.name] = grids[0]
                survey.windows[case.name] = sum(
                    windows.count(PlanGrid.over(grids[0].shape, grids[0].affine, plan).shape)
                    for _, plan, windows in self.configurations
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
                windows = count(done + 1)
                try:
                    image, grid = read_image(case.images, len(self.plan["channels"]))
                except UNREADABLE as error:
                    failed[case.name] = str(error)
                    progress(done + survey.windows[case.name], total, note)
                else:
                    self._write(case, image, grid, partial(_count_window, progress, windows, total, note))
                done += survey.windows[case.name]
        self._gather(survey.cases)
        return failed

    def _write(self, case: Case, image: np.ndarray, grid: Grid, done: Callable[[], None]) -> None:
        """Writes mask, overlay, probabilities and, last, the report of one case."""
        save_json(self.out / "settings.json", self.settings)
        labels = self.plan["labels"]
        voxels = self.out / "probabilities" / f"{case.name}.nii" if self.probabilities else None
        with _probabilities(voxels, grid, len(labels)) as array:
            mask = predict_mean(
                self.configurations,
                image,
                grid.affine,
                mirror=self.mirror,
                device=self.device,
                probabilities=array,
                scratch=self.out,
                done=done,
            )
        postprocess(mask, self.steps, labels, abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000)
        write_mask(self.out / "masks" / f"{case.name}.nii.gz", mask, grid)
        save_png(self.out / "overlays" / f"{case.name}.png", three_planes(image[0], mask, grid))
        rows = describe_mask(mask, labels, grid)
        sources = [fingerprint(path) for path in case.images]
        save_json(self._report(case), dict(case=case.name, sources=sources, structures=rows))

    def _report(self, case: Case) -> Path:
        return self.out / "reports" / f"{case.name}.json"

    def _is_done(self, case: Case) -> bool:
        """Returns whether a case has all of its files, made from the images as they are now."""
        path = self._report(case)
        if not path.is_file() or not all(image.is_file() for image in case.images):
            return False
        made = [f"masks/{case.name}.nii.gz", f"overlays/{case.name}.png"]
        made += [f"probabilities/{case.name}.nii"] if self.probabilities else []
        sources = [fingerprint(image) for image in case.images]
        return all((self.out / name).is_file() for name in made) and read_json(path).get("sources") == sources

    def _gather(self, cases: Sequence[Case]) -> None:
        """Writes volumes.csv from the reports of all cases that have one."""
        reports = [read_json(self._report(case)) for case in cases if self._is_done(case)]
        rows = [dict(case=report["case"]) | row for report in reports for row in report["structures"]]
        if rows:
            save_csv(self.out / "volumes.csv", rows)


def _count_window(progress: Progress, windows: Iterator[int], total: int, note: str) -> None:
    """Reports the next of `windows` as done."""
    progress(next(windows), total, note)


@contextmanager
def _probabilities(path: Path | None, grid: Grid, classes: int) -> Iterator[np.ndarray | None]:
    """Gives an array (I, J, K, classes) of uint16 that is the voxels of a NIfTI file, there once the block is left.

    The file is not compressed: it is filled slab by slab, and may be larger than memory.
    """
    if path is None:
        yield None
        return
    header = mask_header(grid, np.dtype(np.uint16), classes)
    header.extensions.clear()
    offset = header.single_vox_offset
    header.set_data_offset(offset)
    header.set_slope_inter(1 / PROBABILITY_STEPS, 0)
    dtype = np.dtype(np.uint16).newbyteorder(header.endianness)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".part-*-{glob.escape(path.name)}"):  # of full size, by a process that was killed
        left.unlink()
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with part.open("wb") as file:
            header.write_to(file)
            # a full disk says so here, not by a signal when the pages are written
            os.posix_fallocate(file.fileno(), 0, offset + math.prod(grid.shape) * classes * dtype.itemsize)
        array = np.memmap(part, dtype, "r+", offset, (*grid.shape, classes), order="F")
        yield array
        array.flush()
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def fingerprint(path: Path) -> dict[str, Any]:
    """Returns what tells an image from another one that takes its place: path, bytes, time, and a hash of its start."""
    with path.open("rb") as file:
        start = hashlib.sha256(file.read(2**16)).hexdigest()
    status = path.stat()
    return dict(path=str(path.resolve()), bytes=status.st_size, modified_ns=status.st_mtime_ns, start=start)


def _plain(value: Any) -> Any:
    """Returns mappings and sequences of a config as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
