"""Files and folders appear whole or not at all; JSON that is none is named; of many files some are looked at."""

import csv
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary name beside `path`, with the same suffixes, flush, then rename.

    Raises:
        OSError: the disk is full or the folder not writable; nothing of the file is left then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{os.getpid()}-{path.name}")
        try:
            write(part)
            flush(part)
            os.replace(part, path)
            flush(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to fill; afterwards it takes the place of `path`, or goes if the block fails."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, from the system's memory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`; no other process may write there."""
    for part in folder.glob(".part-*"):
        part.unlink()


def check_sums(path: str | Path) -> None:
    """For zip files, such as torch writes, whose own reader verifies no checksum; others are left alone.

    Raises:
        ValueError: a part is not what was written; names it.
        zipfile.BadZipFile: the file's directory is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if (damaged := parts.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} does not match")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON; names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def save_csv(path: Path, rows: Sequence[Mapping[str, Any]], floats: str = ".6g") -> None:
    """Writes a table with the keys of the first row as its header; None is an empty cell, `floats` a format."""

    def write(part: Path) -> None:
        with part.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            for row in rows:
                table.writerow(
                    {key: f"{cell:{floats}}" if isinstance(cell, float) else cell for key, cell in row.items()}
                )

    write_whole(path, write)


def save_png(path: Path, picture: "NDArray[np.uint8]") -> None:
    """Writes a picture, (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    write_whole(path, lambda part: Image.fromarray(picture).save(part))


def save_json(path: Path, content: Any) -> None:
    """Write `content`, numbers that are no finite float refused."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_whole(path, lambda part: part.write_text(text + "\n"))


def sample_evenly(count: int) -> list[int]:
    """0 to `count` - 1 in an order that is about evenly spread wherever it is left."""
    step = next(step for step in range(max(1, round(0.618 * count)), 0, -1) if math.gcd(step, count) == 1)
    return [number * step % count for number in range(count)]


def check_folders(*folders: str | Path | None) -> None:
    """Before a run: can results be written to these folders? What exists of their paths is tried, nothing stays there.

    Raises:
        OSError: no; which part is a file, or cannot be written to.
    """
    for folder in (folder for folder in folders if folder):
        path = Path(folder).absolute()
        there = next(part for part in (path, *path.parents) if part.exists())
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is a file, and results need a folder: name another one than {folder}")
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise OSError(f"{folder} cannot be written to: {there}: {error.strerror}") from None


def check_file(path: str | Path) -> None:
    """As `check_folders`, for a file to write."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, and a file to write was expected")
    check_folders(Path(path).parent)
