"""What ends a run from outside, in words: a full disk, a lost worker or process, no memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from vil_dense.mm.engine.training_memory import describe_smaller_batch, estimate_training, own_step


class RunFault(Exception):
    """Why a run that had begun has to end, in one sentence."""


LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited)")
LOST_PROCESS = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Timed out waiting|NCCL|ProcessGroup", re.I)
LAST_ERROR = re.compile(r"Last error:\s*\S")  # as NCCL says it
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|cannot allocate memory|out of memory|\bCU\w+_ALLOC(?:ATION)?_FAILED", re.I
)
NO_SHARED_MEMORY = re.compile(r"Bus error|unable to (?:allocate|open|resize|mmap) shared memory|/torch_\d+")


@contextmanager
def explain_failures(runner: Runner, split: str = "train") -> Iterator[None]:
    """Errors that have a known cause outside the code leave as a `RunFault` that says it; all others as they are.

    Of Ctrl-C the log of a training says where it would go on.

    Args:
        split: `train` or `test`, what the runner does.
    """
    try:
        yield
    except KeyboardInterrupt:
        if split == "train":
            runner.logger.warning(f"stopped by Ctrl-C: --resume goes on from {last_checkpoint(runner.work_dir)}")
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        words = explain(error, runner, split)
        if words is None:
            raise
        raise RunFault(words) from error


def explain(error: Exception, runner: Runner, split: str = "train") -> str | None:
    """One sentence on the cause of an error and on what helps; None for one that is not known."""
    text, again = str(error), ", then --resume" if split == "train" else ""
    workers = f"{split}_dataloader.num_workers"
    if error.__cause__ is not None:  # of a lost loader process torch says there by which signal
        text = f"{error.__cause__}\n{text}"
    if NO_SHARED_MEMORY.search(text):
        return (
            "shared memory (/dev/shm), through which loader processes hand over their batches, is full: enlarge it "
            f"(docker run --shm-size=8g) or set {workers} to less than {_loader(runner, split).num_workers}"
        )
    if lost := LOST_WORKER.search(text):
        return lost_worker(lost[1], lost[2], f"{workers} to less than {_loader(runner, split).num_workers}", again)
    if is_out_of_memory(error):  # before a lost process: NCCL has memory of its own, and wraps this error
        advice = describe_training_needs(runner) if split == "train" else describe_test_needs(runner)
        return f"{describe_out_of_memory(error)}{advice}"
    if isinstance(error, OSError) and NO_SPACE.search(text):
        last = f"; the last whole checkpoint: {last_checkpoint(runner.work_dir)}" if again else ""
        return f"{text}{last}; make room{again}"
    if torch.distributed.is_initialized() and LOST_PROCESS.search(text):
        return (
            f"process {runner.rank} of {runner.world_size} has lost another one, whose own output says why it ended "
            f"({_said(text, LAST_ERROR)[-300:]}); start all again{' with --resume' if again else ''}"
        )
    return None


def lost_worker(pid: str, signal: str | None, fewer: str, again: str) -> str:
    if signal == "Killed":
        return (
            f"loader process {pid} was killed (SIGKILL), as the system does where memory runs out: "
            f"set {fewer}, or ask for more memory{again}"
        )
    how = f"was ended by a signal ({signal.strip()})" if signal else "ended without a word"
    return f"loader process {pid} {how}: its own lines above say more; {fewer.split()[0]}=0 shows its errors"


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or bool(NO_MEMORY.search(str(error)))


def describe_out_of_memory(error: Exception) -> str:
    """The beginning of a sentence, which what helps ends."""
    return f"out of memory ({_said(str(error) or type(error).__name__, NO_MEMORY)}); "


def _said(text: str, cause: re.Pattern[str]) -> str:
    """The first line of an error, and the one where its cause ends if that is another."""
    lines, found = text.splitlines(), cause.search(text)
    last = text[: found.end()].count("\n") if found else 0
    return lines[0] if not last else f"{lines[0]}: {lines[last].strip()}"


def describe_training_needs(runner: Runner) -> str:
    """What a step takes, where that is known, and what makes it less."""
    try:
        expected, smaller = estimate_training(runner), describe_smaller_batch(runner)
        takes = f"a step of {own_step(runner)} takes {expected}; " if expected else ""
    except Exception:  # of an estimate is less to be said than of the memory
        takes, smaller = "", "a smaller batch or crop needs less"
    return takes + smaller


def describe_test_needs(runner: Runner) -> str:
    batch = _loader(runner, "test").batch_size
    if batch and batch > 1:
        return f"set test_dataloader.batch_size to less than {batch}"
    network = getattr(runner.model, "module", runner.model)
    if not hasattr(network, "decode_head"):
        return "end other processes, or ask for more memory"
    return "smaller windows need less: model.test_cfg.mode=slide, and crop_size and stride in model.test_cfg"


def _loader(runner: Runner, split: str) -> DataLoader:
    return getattr(runner, f"{split}_dataloader")


def last_checkpoint(work_dir: str) -> str:
    """The file that the run would go on from, or "none"."""
    pointer = Path(work_dir) / "last_checkpoint"
    return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else "none"
