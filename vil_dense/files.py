"""Provides atomic writes, JSON and CSV helpers, and even sampling of file lists."""

import csv
import errno
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ_BYTES = 2**20
"""Bytes of a file that are read at a time: a checkpoint may be larger than the free memory."""
LARGEST_JSON = 2**28
"""Bytes of the largest JSON file that is read: far more than a list of a million cases."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file atomically: calls `write` with a temporary path of the same suffix, flushes it and renames it.

    Raises:
        OSError: the disk is full or the folder not writable; no partial file is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is a folder or a device, not a file")
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
    """Yields a new folder that replaces `path` after the block; if the block fails, the new folder is deleted."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    for left in path.parent.glob(f".part-*-{glob.escape(path.name)}"):
        if not is_running(int(left.name.split("-")[1])):  # a process that was killed
            shutil.rmtree(left)
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_running(process: int) -> bool:
    """Returns whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def flush(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes partial files of killed processes from `folder`; no other process may write to it.

    Partial folders stay for the next `whole_folder`, which knows whether their process is still running.
    """
    for part in folder.glob(".part-*"):
        if not part.is_dir():
            part.unlink()


def check_regular(path: str | Path) -> None:
    """Checks that a path is no pipe, socket or device, which can be read without an end; it need not exist.

    Raises:
        ValueError: it is one.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise ValueError(f"{path} is a pipe or a device, and a file was expected")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: the file is not valid JSON, is no regular file, or is larger than `LARGEST_JSON`; names the file.
    """
    check_regular(path)
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise ValueError(f"{path} has {size:,} bytes, and JSON of up to {LARGEST_JSON:,} is read")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def sha256(path: Path) -> str:
    """Returns the SHA-256 of the content of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            found.update(block)
    return found.hexdigest()


def save_csv(path: Path, rows: Sequence[Mapping[str, Any]], floats: str = ".6g") -> None:
    """Writes a table with the keys of the first row as header; floats have six digits, None is an empty cell."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
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
    """Writes `content` as JSON; raises ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_whole(path, lambda part: part.write_text(text + "\n"))


def describe_skipped(folder: Path, used: Iterable[str | Path], most: int = 3) -> str:
    """Returns a sentence on the visible files below `folder` that are not among the `used`; empty if there are none.

    Files in a hidden folder, as `.git` or `.ipynb_checkpoints`, are not visible.
    """
    taken = {os.path.abspath(path) for path in used}
    others = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and os.path.abspath(path) not in taken
        and not any(part.startswith((".", "Thumbs.db")) for part in path.relative_to(folder).parts)
    )
    if not others:
        return ""
    names = ", ".join(str(path.relative_to(folder)) for path in others[:most]) + ", ..." * (len(others) > most)
    count = f"{len(others)} files in {folder} are" if len(others) > 1 else f"1 file in {folder} is"
    return f"{count} not read: {names}"


def sample_evenly(count: int) -> list[int]:
    """Returns 0 to `count` - 1 in an order of which each beginning is spread about evenly."""
    step = next(step for step in range(max(1, round(0.618 * count)), 0, -1) if math.gcd(step, count) == 1)
    return [number * step % count for number in range(count)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that tell them apart.

    Raises:
        ValueError: a path is given twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"each run is given once, got {', '.join(map(str, paths))}")
    absolute = [Path(os.path.abspath(path)) for path in paths]  # a link has the name by which it was given
    depth = next(n for n in range(1, 99) if len({path.parts[-n:] for path in absolute}) == len(absolute))
    return ["/".join(path.parts[-depth:]) for path in absolute]


def check_folders(*folders: str | Path | None) -> None:
    """Checks that results can be written to some folders, which need not exist, and leaves no file behind.

    Raises:
        OSError: a part of a path is a file, or cannot be written to.
    """
    for folder in (folder for folder in folders if folder):
        path = Path(folder).absolute()
        existing = next(part for part in (path, *path.parents) if part.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file, and results need a folder: choose another than {folder}")
        try:
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            raise OSError(f"{folder} cannot be written to: {existing}: {error.strerror}") from None


def check_file(path: str | Path) -> None:
    """Checks that a file can be written to `path`; raises as `check_folders` does."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, and a file to write was expected")
    check_folders(Path(path).parent)
