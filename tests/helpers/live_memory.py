"""Defines the counters with which tests measure memory."""

import ctypes
import gc
import threading
import time
from pathlib import Path

from vil_dense.cost.memory import LiveMemory

__all__ = ["LiveMemory", "PeakResident"]


class PeakResident:
    """Samples the resident memory of this process, every 5 ms, within a block; `grown` is the most that came on top.

    It sees what C libraries take, too. Memory that was freed before is first given back to the system, which glibc does
    and only Linux shows.
    """

    grown = 0

    def __enter__(self) -> "PeakResident":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.before, self.over = self._resident(), threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _sample(self) -> None:
        while not self.over.is_set():
            self.grown = max(self.grown, self._resident() - self.before)
            time.sleep(0.005)

    @staticmethod
    def _resident() -> int:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
        return 1024 * int(line.split()[1])
