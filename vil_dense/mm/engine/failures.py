"""Explains failures with a cause outside the code: a full disk, a lost worker or process, too little memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from vil_dense.mm.engine.training_memory import describe_smaller_batch, estimate_training, own_step
from vil_dense.mm.utils.unwrap import unwrap


class RunFault(Exception):
    """Ends a run that has started; the message gives the reason in one sentence."""


LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited)")
LOST_PROCESS = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Timed out waiting|NCCL|ProcessGroup", re.I)
LAST_ERROR = re.compile(r"Last error:\s*\S")  # NCCL's wording
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|cannot allocate memory|out of memory|\bCU\w+_ALLOC(?:ATION)?_FAILED", re.I
)
NO_SHARED_MEMORY = re.compile(r"Bus error|unable to (?:allocate|open|resize|mmap) shared memory|/torch_\d+")

TOO_MANY_FILES = re.compile(r"Too many open files|items of ancdata")


@contextmanager
def explain_failures(runner: Runner, split: str = "train") -> Iterator[None]:
    """Raises a `RunFault` with an explanation in place of an error with a known cause; other errors pass through.

    After Ctrl-C the log of a training names the checkpoint from which it can resume.

    Args:
        runner: the runner that works within the context.
        split: what it does, `train` or `test`.
    """
    try:
        yield
    except KeyboardInterrupt:
        if split == "train":
            runner.logger.warning(f"stopped by Ctrl-C: --resume goes on from {resume_point(runner.work_dir)}")
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        message = explain(error, runner, split)
        if message is None:
            raise
        raise RunFault(message) from error


def explain(error: Exception, runner: Runner, split: str = "train") -> str | None:
    """Returns one sentence on the cause of an error and its remedy; None if the cause is not known."""
    text, again = str(error), ", then --resume" if split == "train" else ""
    workers = f"{split}_dataloader.num_workers"
    if error.__cause__ is not None:  # for a lost loader process torch names the signal there
        text = f"{error.__cause__}\n{text}"
    if TOO_MANY_FILES.search(text):
        return (
            f"too many files are open, which batches of loader processes count as: raise the limit (ulimit -n 4096) "
            f"or set {workers} to less than {_loader(runner, split).num_workers}{again}"
        )
    if NO_SHARED_MEMORY.search(text):
        return (
            "shared memory (/dev/shm), through which loader processes pass their batches, is full: enlarge it "
            f"(docker run --shm-size=8g) or set {workers} to less than {_loader(runner, split).num_workers}"
        )
    if worker := LOST_WORKER.search(text):
        return describe_lost_worker(
            worker[1], worker[2], f"{workers} to less than {_loader(runner, split).num_workers}", again
        )
    if is_out_of_memory(error):  # checked before a lost process: NCCL wraps errors of its own allocations
        advice = describe_training_needs(runner) if split == "train" else describe_test_needs(runner)
        return f"{describe_out_of_memory(error)}{advice}"
    if isinstance(error, OSError) and NO_SPACE.search(text):
        last = f"; the last complete checkpoint: {resume_point(runner.work_dir)}" if again else ""
        return f"{text}{last}; free some space{again}"
    if torch.distributed.is_initialized() and LOST_PROCESS.search(text):
        return (
            f"process {runner.rank} of {runner.world_size} has lost another one, whose own output says why it ended "
            f"({_cause_lines(text, LAST_ERROR)[-300:]}); start all again{' with --resume' if again else ''}"
        )
    return None


def describe_lost_worker(pid: str, signal: str | None, fewer: str, again: str) -> str:
    """Returns a sentence on a loader process that ended; `fewer` names the setting with fewer workers."""
    if signal == "Killed":
        return (
            f"loader process {pid} was killed (SIGKILL), as the system does when memory runs out: "
            f"set {fewer}, or request more memory{again}"
        )
    how = f"was ended by a signal ({signal.strip()})" if signal else "ended without a message"
    return f"loader process {pid} {how}: its output is above; {fewer.split()[0]}=0 shows its errors"


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error of Python, torch, CUDA or NCCL reports a failed allocation."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or bool(NO_MEMORY.search(str(error)))


def describe_out_of_memory(error: Exception) -> str:
    """Returns the beginning of a sentence; the caller appends the remedy."""
    return f"out of memory ({_cause_lines(str(error) or type(error).__name__, NO_MEMORY)}); "


def _cause_lines(text: str, cause: re.Pattern[str]) -> str:
    """Returns the first line of an error, and the line with its cause if that is another one."""
    lines, found = text.splitlines(), cause.search(text)
    last = text[: found.end()].count("\n") if found else 0
    return lines[0] if not last else f"{lines[0]}: {lines[last].strip()}"


def describe_training_needs(runner: Runner) -> str:
    """Returns the estimated memory of a step, if known, and settings that reduce it."""
    try:
        expected, smaller = estimate_training(runner), describe_smaller_batch(runner)
        takes = f"a step of {own_step(runner)} takes {expected}; " if expected else ""
    except Exception:  # a failed estimate must not hide the out-of-memory error
        takes, smaller = "", "a smaller batch or crop needs less"
    return takes + smaller


def describe_test_needs(runner: Runner) -> str:
    """Returns the settings that reduce the memory of a test."""
    batch = _loader(runner, "test").batch_size
    if batch and batch > 1:
        return f"set test_dataloader.batch_size to less than {batch}"
    network = unwrap(runner.model)
    if not hasattr(network, "decode_head"):
        return "end other processes, or request more memory"
    return "smaller windows need less: model.test_cfg.mode=slide, and crop_size and stride in model.test_cfg"


def _loader(runner: Runner, split: str) -> DataLoader:
    return getattr(runner, f"{split}_dataloader")


def resume_point(work_dir: str) -> str:
    """Returns the path of the checkpoint from which the run would resume, or "none"."""
    pointer = Path(work_dir) / "last_checkpoint"
    return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else "none"
