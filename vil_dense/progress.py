"""Shows how far a long loop is, and how long it will take."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LONGEST_S = 60.0
"""Most seconds between two lines."""


class Progress:
    """Shows a bar with count and time left on a terminal; elsewhere writes lines ever more rarely, and one at the end.

    It is called with what is done, what there is to do, and a note. As a context manager it removes the bar where the
    loop fails.

    Args:
        what: the work, in a word.
        say: takes the lines instead, as for a log, and none at the end.
        stream: a terminal or a file (default: stderr).
        every_s: seconds between the first lines. From then on a line comes after a third more of the time so far, or
            after `LONGEST_S`, so that a log of a long loop stays short.
    """

    def __init__(
        self,
        what: str,
        say: Callable[[str], None] | None = None,
        *,
        stream: TextIO | None = None,
        every_s: float = 5.0,
    ) -> None:
        self.what, self.say, self.stream, self.every_s = what, say, stream, every_s
        self.start = self.said = time.monotonic()
        self.bar: Bar | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, done: float, total: int, note: str = "") -> None:
        stream = self.stream or sys.stderr
        now = time.monotonic()
        if self.say is None and stream.isatty():
            self._draw(done, total, note, stream)
        elif now - self.said >= max(self.every_s, min((now - self.start) / 4, LONGEST_S)) or (
            self.say is None and done >= total
        ):
            self.said = now
            rest = timedelta(seconds=round((now - self.start) / done * (total - done)))
            line = f"{self._count(done, total, note)}, ETA {rest}"
            self.say(line) if self.say else print(line, file=stream, flush=True)

    def _count(self, done: float, total: int, note: str) -> str:
        return f"{self.what}: {int(done)} of {total}" + (f", {note}" if note else "")

    def _draw(self, done: float, total: int, note: str, stream: TextIO) -> None:
        """Moves the bar, which begins with the first call and ends with the last one."""
        if self.bar is None:
            columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
            # lines that are printed meanwhile go above the bar, but stay in a file where stdout is one
            self.bar = Bar(*columns, console=Console(file=stream), redirect_stdout=sys.stdout.isatty())
            self.bar.add_task("")
            self.bar.start()
        task = self.bar.task_ids[0]
        self.bar.update(task, description=self._count(done, total, note), completed=done, total=total)
        if done >= total:
            self.bar.stop()
