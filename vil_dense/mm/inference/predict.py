"""Labels files with a segmentor and writes the results: the work of `tools/predict.py`."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from vil_dense.cost.memory import GIB, free_memory
from vil_dense.mm.engine.failures import RunFault, describe_out_of_memory, is_out_of_memory
from vil_dense.mm.inference.memory import estimate
from vil_dense.mm.inference.pictures import UNREADABLE, why_unread
from vil_dense.mm.inference.prediction import Prepared
from vil_dense.mm.inference.raster.labels import label_raster
from vil_dense.mm.inference.segmentor import Segmentor
from vil_dense.mm.inference.sliding_window import cut
from vil_dense.mm.inference.video import label_video
from vil_dense.progress import Progress


def write_all(
    segmentor: Segmentor, pictures: dict[Path, Path], out: Path, *, opacity: float = 0.5, probabilities: bool = False
) -> list[str]:
    """Writes label and overlay of each picture below `out`; returns the names of those that could not be read.

    Args:
        segmentor: labels the pictures.
        pictures: for each file the path of its results below `labels` and `overlays`, without suffix.
        out: the folder of the results.
        opacity: of the colours in the overlays.
        probabilities: also write those of all classes, `probabilities/NAME.npy`.

    Raises:
        RunFault: there is no memory for a picture; what would need less.
    """
    unread, largest = [], 0
    with Progress("pictures") as progress:
        for index, (path, name) in enumerate(pictures.items()):
            try:
                prepared = read(segmentor, path, name)
            except UNREADABLE as error:
                unread.append(why_unread(path, error))
                progress(index + 1, len(pictures))
                continue
            if prepared.size[0] * prepared.size[1] > largest:
                largest = prepared.size[0] * prepared.size[1]
                print_memory(segmentor, prepared)
                if probabilities:
                    print(f"probabilities: {4 * len(segmentor.classes) * largest / GIB:.2f} GiB more")
            counted = partial(_count_windows, progress, index, len(pictures))
            with explain_memory(segmentor, path):
                prediction = segmentor.run(prepared, probabilities, counted)
            prediction.save(out, opacity=opacity)
    return unread


def write_rasters(segmentor: Segmentor, rasters: dict[Path, Path], out: Path, **options: Any) -> list[str]:
    """Writes the labels of each georeferenced raster to `out/labels`; returns the names of those that cannot be used.

    Args:
        segmentor: labels the rasters.
        rasters: for each file the path of its labels below `labels`, without suffix.
        out: the folder of the results.
        **options: `bands`, `percentiles` and `blend` of `Segmentor.predict_raster`.

    Raises:
        RunFault: there is no memory for a window; what would need less.
        OSError: labels cannot be written.
    """
    unread = []
    for path, name in rasters.items():
        try:
            with explain_memory(segmentor, path), Progress("windows") as progress:
                label_raster(segmentor, path, out / "labels" / f"{name}.tif", progress=progress, say=print, **options)
        except ValueError as error:
            unread.append(why_unread(path, error))
    return unread


def write_videos(
    segmentor: Segmentor, videos: dict[Path, Path], out: Path, *, opacity: float = 0.5, masks: bool = False
) -> list[str]:
    """Writes the overlays of each video to `out/videos`; returns the names of those that cannot be used.

    Args:
        segmentor: labels the frames.
        videos: for each file the path of its results below the folders of `out`, without suffix.
        out: the folder of the results.
        opacity: of the colours in the overlays.
        masks: also write the label of each frame, `labels/NAME/000000.png` and so on.

    Raises:
        RunFault: there is no memory for a frame; what would need less.
        OSError: a result cannot be written.
    """
    unread = []
    for path, name in videos.items():
        folder = out / "labels" / name if masks else None
        try:
            with explain_memory(segmentor, path), shown_warnings(), Progress("frames") as progress:
                label_video(
                    segmentor, path, out / "videos" / f"{name}.mp4", opacity=opacity, masks=folder, progress=progress
                )
        except ValueError as error:
            unread.append(why_unread(path, error))
    return unread


@contextmanager
def explain_memory(segmentor: Segmentor, path: Path) -> Iterator[None]:
    """Turns a failure for lack of memory into a `RunFault` that names the file, and what would need less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunFault(f"{path}: {describe_out_of_memory(error)}{_less_memory(segmentor)}") from error


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Prints each `UserWarning` as a line on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in caught:
                if issubclass(warning.category, UserWarning):
                    print(f"warning: {warning.message}", file=sys.stderr)


def read(segmentor: Segmentor, path: Path, name: Path) -> Prepared:
    """Reads a picture as the segmentor was trained, and prints a warning for pages that are left out."""
    with shown_warnings():
        return segmentor.prepare(path, str(name))


def print_memory(segmentor: Segmentor, prepared: Prepared) -> None:
    """Prints the memory that a picture will take, and a warning if less is free."""
    size, inputs = prepared.size, (prepared.inputs.shape[2], prepared.inputs.shape[3])
    windows = cut(inputs, segmentor.model.test_cfg)
    count = len(windows.tops) * len(windows.lefts)
    how = f"{count} windows of {windows.window[0]} x {windows.window[1]} px" if count > 1 else "whole"
    print(
        f"largest picture so far (height x width): {size[0]} x {size[1]} px, "
        f"network input {inputs[0]} x {inputs[1]} px, {how}"
    )
    expected = estimate(segmentor.model, inputs, size, segmentor.batch)
    if expected is None:
        print("memory: not estimated (only for a ViL backbone with a standard mmseg head)")
        return
    print(f"memory: {expected}")
    free = free_memory(str(segmentor.device))
    if free is not None and expected.needed > free:
        print(
            f"warning: {free / GIB:.1f} GiB are free and about {expected.needed / GIB:.1f} GiB more are needed: "
            "smaller --window or --window-batch need less",
            file=sys.stderr,
        )


def _count_windows(progress: Progress, picture: int, pictures: int, done: int, count: int) -> None:
    """Reports windows of a picture as parts of it."""
    progress(picture + done / count, pictures, f"window {done} of {count}" if count > 1 else "")


def _less_memory(segmentor: Segmentor) -> str:
    test_cfg = segmentor.model.test_cfg
    if test_cfg.get("mode", "whole") != "slide":
        return "windows need less: --window 512, and no --whole"
    size = " x ".join(map(str, test_cfg.crop_size))
    fewer = f", or --window-batch of less than {segmentor.batch}" if segmentor.batch > 1 else ""
    return f"a --window smaller than {size} needs less{fewer}"
