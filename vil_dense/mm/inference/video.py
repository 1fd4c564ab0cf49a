"""Labels videos frame by frame: each frame is a picture, and the result is a video of overlays."""

import os
import warnings
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vil_dense.files import write_whole
from vil_dense.mm.inference.prediction import Prediction, run_together

if TYPE_CHECKING:
    from vil_dense.mm.inference.segmentor import Segmentor

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""Endings of videos, in lower case."""
QUIET = "-8"
"""Level of FFmpeg's messages at which it writes none: `label_video` raises the errors."""
DEFAULT_RATE = 25.0
"""Frames in a second, where a video does not say."""


def split_videos(found: dict[Path, Path]) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Returns the files that are no videos by their endings, and those that are."""
    parts: tuple[dict[Path, Path], dict[Path, Path]] = {}, {}
    for path, name in found.items():
        parts[path.suffix.lower() in SUFFIXES][path] = name
    return parts


def label_video(
    segmentor: "Segmentor",
    path: Path,
    out: Path,
    *,
    opacity: float = 0.5,
    masks: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> None:
    """Writes the overlays of the frames of a video as an MP4 (MPEG-4) of the same frame rate, without its sound.

    A video that ends early is labelled up to there, with a `UserWarning`.

    Args:
        segmentor: labels the frames; `segmentor.batch` of them run at one time, if they are not cut into windows.
        path: a video that OpenCV reads.
        out: a file that ends in `.mp4`. A side of an odd number of px loses one.
        opacity: of the colours in the overlays.
        masks: a folder for the label PNG of each frame, `000000.png` and so on; None writes none.
        progress: called with the number of finished frames and of all that the video says it has.

    Raises:
        ValueError: no frame can be read, or frames are not what the model takes.
        OSError: a result cannot be written.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", QUIET)
    video = cv2.VideoCapture(str(path))
    rate, total = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))

    def frames() -> Iterator[np.ndarray]:
        done = 0
        for done, prediction in enumerate(_predictions(segmentor, video), 1):
            yield np.asarray(prediction.overlay(opacity, legend=False))
            if masks:
                prediction.save(masks / f"{prediction.name}.png")
            progress(done, max(total, done))
        if not done:
            raise ValueError("OpenCV reads no frame of it: it is damaged, or not a video")
        if done < total:
            warnings.warn(f"{path} says that it has {total} frames, and {done} can be read", stacklevel=2)

    try:
        write_whole(out, lambda part: _write(part, rate, frames()))
    finally:
        video.release()


def _write(path: Path, rate: float, frames: Iterator[np.ndarray]) -> None:
    writer = None
    try:
        for frame in frames:
            writer = writer or _open(path, rate, frame)
            writer.write(frame[..., ::-1])
    finally:
        if writer:
            writer.release()


def _predictions(segmentor: "Segmentor", video: cv2.VideoCapture) -> Iterator[Prediction]:
    """Yields the predictions of the frames, named by their numbers; `segmentor.batch` frames run at one time."""
    frames, numbers = _frames(video), count()
    while batch := list(islice(frames, segmentor.batch)):
        yield from run_together(segmentor, [segmentor.prepare(frame, f"{next(numbers):06d}") for frame in batch])


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yields the frames, (H, W, 3) RGB uint8."""
    while True:
        read, frame = video.read()
        if not read:
            return
        yield np.ascontiguousarray(frame[..., ::-1])


def _open(path: Path, rate: float, frame: np.ndarray) -> cv2.VideoWriter:
    """Opens a video for frames of the size of `frame`; raises OSError if OpenCV cannot."""
    size = frame.shape[1], frame.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate if rate > 0 else DEFAULT_RATE, size)
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write a video to {path.parent}")
    return writer
