"""Reports the progress of a long loop."""

import time
from collections.abc import Callable


class Progress:
    """Writes a line every few seconds when it is called with what is done and what there is to do.

    Args:
        what: the work, in a word.
        say: takes a line.
        every_s: seconds between two lines.
    """

    def __init__(self, what: str, say: Callable[[str], None] = print, every_s: float = 5.0) -> None:
        self.what, self.say, self.every_s = what, say, every_s
        self.start = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said > self.every_s:
            self.said = now
            self.say(f"{self.what}: {done} of {total}, {(now - self.start) / done * (total - done):.0f} s left")
