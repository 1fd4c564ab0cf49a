"""Retries reads from a network drive that is temporarily unreachable."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

RETRY_S = 300.0
"""Seconds after which an unreachable file ends the run."""
LONGEST_WAIT_S = 30.0
"""Longest time between two tries, in seconds; the first wait is one second, and each is twice the one before."""


def read_with_retry(read: Callable[[], Any], files: Sequence[str]) -> Any:
    """Returns `read()`; if it fails while `files` are unreachable, tries again when they are back or after `RETRY_S`.

    A file that is missing from an existing folder will not come back: its error is raised at once. A file that can be
    opened is damaged: its error is raised after one more try. Each wait is logged once by each loader process.
    """
    try:
        return read()
    except Exception:  # readers raise different errors for an unreachable file
        if any(map(is_gone, files)):
            raise
        wait_for(files)
    return read()


def wait_for(files: Sequence[str]) -> None:
    """Waits until all `files` can be opened, until one is missing for good, or for `RETRY_S` seconds."""
    wait, end = 1.0, time.monotonic() + RETRY_S
    unreachable = [file for file in files if not can_be_opened(file)]
    if unreachable:
        message = f"data: {unreachable[0]} is unreachable, waiting up to {RETRY_S:.0f} s for it"
        print_log(message, "current", logging.WARNING)
    while unreachable and time.monotonic() < end and not any(map(is_gone, unreachable)):
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)
        unreachable = [file for file in unreachable if not can_be_opened(file)]


def is_gone(file: str) -> bool:
    """Returns whether the file is missing from a folder that exists and has other files."""
    try:
        os.stat(file)
    except FileNotFoundError:
        try:
            return any(Path(file).parent.iterdir())
        except OSError:
            return False
    except OSError:
        return False
    return False


def can_be_opened(file: str) -> bool:
    """Returns whether the first byte of the file, or the list of the files of a folder (of DICOM), can be read."""
    try:
        if os.path.isdir(file):
            return bool(os.listdir(file))
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError:
        return False
    return True
