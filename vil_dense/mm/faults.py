"""What ends a run from outside, in words: a full disk, a lost worker or process, no memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.runner import Runner

from vil_dense.mm.training_memory import estimate_training, own_step, said_smaller


class RunFault(Exception):
    """Why a run that had begun has to end, in one sentence."""


LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited)")
LOST_PROCESS = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Timed out waiting|NCCL|ProcessGroup", re.I)
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|Cannot allocate memory|CUDA out of memory")
NO_SHARED_MEMORY = re.compile(r"Bus error|unable to (?:allocate|open|resize|mmap) shared memory|/torch_\d+")


@contextmanager
def in_words(runner: Runner) -> Iterator[None]:
    """Errors that have a known cause outside the code leave as a `RunFault` that says it; all others as they are.

    Of Ctrl-C the log says where the run would go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        runner.logger.warning(f"stopped by Ctrl-C: --resume goes on from {last_checkpoint(runner.work_dir)}")
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        words = explain(error, runner)
        if words is None:
            raise
        raise RunFault(words) from error


def explain(error: Exception, runner: Runner) -> str | None:
    """One sentence on the cause of an error and on what helps; None for one that is not known."""
    text = str(error)
    if error.__cause__ is not None:  # of a lost loader process torch says there by which signal
        text = f"{error.__cause__}\n{text}"
    if NO_SHARED_MEMORY.search(text):
        return (
            "shared memory (/dev/shm), through which loader processes hand over their batches, is full: enlarge it "
            f"(docker run --shm-size=8g) or set train_dataloader.num_workers to less than {workers(runner)}"
        )
    if lost := LOST_WORKER.search(text):
        return lost_worker(lost[1], lost[2], workers(runner))
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or NO_MEMORY.search(text):
        return out_of_memory(text.splitlines()[0] if text else type(error).__name__, runner)
    if isinstance(error, OSError) and NO_SPACE.search(text):
        return f"{text}; the last whole checkpoint: {last_checkpoint(runner.work_dir)}; make room, then --resume"
    if torch.distributed.is_initialized() and LOST_PROCESS.search(text):
        return (
            f"process {runner.rank} of {runner.world_size} has lost another one, whose own output says why it ended "
            f"({text.splitlines()[0][-200:]}); start all again with --resume"
        )
    return None


def lost_worker(pid: str, signal: str | None, count: int) -> str:
    if signal == "Killed":
        return (
            f"loader process {pid} was killed (SIGKILL), as the system does where memory runs out: "
            f"set train_dataloader.num_workers to less than {count}, or ask for more memory, then --resume"
        )
    how = f"was ended by a signal ({signal.strip()})" if signal else "ended without a word"
    return f"loader process {pid} {how}: its own lines above say more; train_dataloader.num_workers=0 shows its errors"


def out_of_memory(said: str, runner: Runner) -> str:
    try:
        expected, smaller = estimate_training(runner), said_smaller(runner)
        takes = f"; a step of {own_step(runner)} takes {expected}" if expected else ""
    except Exception:  # of an estimate is less to be said than of the memory
        takes, smaller = "", "a smaller batch or crop needs less"
    return f"out of memory ({said}){takes}; {smaller}"


def workers(runner: Runner) -> int:
    return runner.train_dataloader.num_workers


def last_checkpoint(work_dir: str) -> str:
    """The file that the run would go on from, or "none"."""
    pointer = Path(work_dir) / "last_checkpoint"
    return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else "none"
