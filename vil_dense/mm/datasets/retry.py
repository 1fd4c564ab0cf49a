"""Reading from a share that goes away for a while."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

RETRY_S = 300.0
"""A share that is away for longer ends the run."""
LONGEST_WAIT_S = 30.0
"""Between two looks; the first comes after one second, and each takes twice as long as the one before."""


def read_with_retry(read: Callable[[], Any], files: Sequence[str]) -> Any:
    """`read()`; where it fails while its `files` are out of reach, once more when they are back, or after `RETRY_S`.

    A file that is missing in a folder that is there will not come back, and one that can be opened is damaged: their
    errors are raised at once, the second after one more try. The wait is said once in the log of each loader process.
    """
    try:
        return read()
    except Exception:  # a reader words the loss of a file in its own way
        if any(map(is_gone, files)):
            raise
        wait_for(files)
    return read()


def wait_for(files: Sequence[str]) -> None:
    """Returns when all `files` can be opened, or one is gone for good, or patience is at its end."""
    wait, end = 1.0, time.monotonic() + RETRY_S
    away = [file for file in files if not can_be_opened(file)]
    if away:
        print_log(f"data: {away[0]} is out of reach, waiting up to {RETRY_S:.0f} s for it", "current", logging.WARNING)
    while away and time.monotonic() < end and not any(map(is_gone, away)):
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)
        away = [file for file in away if not can_be_opened(file)]


def is_gone(file: str) -> bool:
    """Is the file missing in a folder that is there and has others?"""
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
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError:
        return False
    return True
