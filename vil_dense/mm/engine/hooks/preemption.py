"""Handles SIGTERM, which schedulers send before they take a machine back: saves a checkpoint and exits with code 75.

The code is `EX_TEMPFAIL` of sysexits.h ("try again"). In a batch script:
`srun python tools/train.py ... --resume; [ $? -eq 75 ] && scontrol requeue $SLURM_JOB_ID`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_start_method
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from threading import Thread
from types import FrameType, TracebackType
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from vil_dense.mm.engine.checkpoint_names import name_within_epoch
from vil_dense.mm.engine.checkpoints import SafeCheckpointHook
from vil_dense.mm.engine.distributed import end_processes
from vil_dense.mm.engine.failures import resume_point
from vil_dense.mm.engine.loops.epoch_loop import EpochLoop
from vil_dense.mm.engine.loops.step_loop import start_at_step

REQUEUE = 75
STOP_CHECK_INTERVAL = 8
"""Validation batches between two checks for SIGTERM in any process; each check is an all-reduce."""


class Preempted(SystemExit):
    """Ends the process after SIGTERM with exit code 75; the run can be resumed."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)


@contextmanager
def requeue_on_preemption() -> Iterator[None]:
    """Exits with code 75 at SIGTERM while no `PreemptionHook` is active, as during the set-up of a run.

    There is nothing to save then. Processes do not wait for each other. Child processes end as they always do.
    """
    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        print(f"stopped by SIGTERM, with nothing to save: --resume goes on (exit code {REQUEUE})", file=sys.stderr)
        raise Preempted

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves a checkpoint after the step in which SIGTERM arrives, and ends all processes with exit code 75.

    With gradient accumulation it waits for the update. During a validation, and in an epoch loop that is not an
    `EpochLoop`, nothing is saved: the run resumes from its last checkpoint.

    Raises:
        Preempted: after the checkpoint is saved.
    """

    priority = "LOWEST"  # all that belongs to a step is done

    def __init__(self) -> None:
        self.sigterm_received = False

    def before_run(self, runner: Runner) -> None:
        # Not later: a checkpoint hook may validate before the first step, and loader processes may stay.
        for loop in (runner._train_loop, runner._val_loop):
            if isinstance(loop, BaseLoop):
                loader = loop.dataloader
                loader.worker_init_fn = partial(block_sigterm, loader.worker_init_fn)
                if loader.num_workers and not loader.multiprocessing_context and get_start_method() == "fork":
                    loader.multiprocessing_context = SigtermBlockedContext()

    def before_train(self, runner: Runner) -> None:
        start_at_step(runner.train_loop)
        self.before = signal.signal(signal.SIGTERM, self._on_sigterm)

    def after_train(self, runner: Runner) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        step = runner.iter + 1
        if not runner.optim_wrapper.should_update() or not self._any_received():
            return
        within, steps = (isinstance(runner.train_loop, loop) for loop in (EpochLoop, IterBasedTrainLoop))

        def name(template: str) -> str:
            return name_within_epoch(template, runner.epoch, batch_idx + 1) if within else template.format(step)

        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        for hook in [hook for hook in hooks if not saved_last(runner, name(hook.filename_tmpl))]:
            if isinstance(hook, SafeCheckpointHook) and within:
                hook.save_within_epoch(runner, batch_idx + 1)
            elif steps:
                hook._save_checkpoint_with_step(runner, step, meta=dict(epoch=runner.epoch, iter=step))
        self._stop(runner, f"step {step}")

    def before_val_epoch(self, runner: Runner) -> None:
        batches = torch.tensor(len(runner.val_dataloader))
        all_reduce(batches, "min")
        self.shared_batches = int(batches)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # An all-reduce after the last batch of another process would wait forever.
        check = runner.world_size == 1 or batch_idx % STOP_CHECK_INTERVAL == 0
        if check and batch_idx < self.shared_batches and self._any_received():
            self._stop(runner, "a validation")

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.sigterm_received = True

    def _any_received(self) -> bool:
        """Returns whether any process received SIGTERM."""
        received = torch.tensor(float(self.sigterm_received))
        all_reduce(received, "max")
        return bool(received)

    def _stop(self, runner: Runner, where: str) -> None:
        signal.signal(signal.SIGTERM, self.before)
        saved = resume_point(runner.work_dir)
        runner.logger.warning(f"stopped by SIGTERM after {where}: --resume goes on from {saved} (exit code {REQUEUE})")
        end_processes()
        raise Preempted


def saved_last(runner: Runner, name: str) -> bool:
    """Returns whether `name` is the last checkpoint of this run; `last_checkpoint` may still name an earlier run's."""
    return Path(runner.message_hub.runtime_info.get("last_ckpt") or "").name == name


class SigtermBlockedProcess(ForkProcess):
    """Starts with SIGTERM blocked in all of its threads; torch starts some before `worker_init_fn` is called."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SigtermBlockedContext(ForkContext):
    """Starts data-loading processes with SIGTERM blocked."""

    Process = SigtermBlockedProcess


def block_sigterm(init: Callable[[int], None] | None, worker_id: int) -> None:
    """Initialises a data-loading process with `init`; afterwards only a SIGTERM of its parent ends it.

    Slurm sends SIGTERM to every process of a step, and the training step still needs its batch. Errors about the
    connection that is lost when the parent exits are suppressed.
    """
    if init is not None:
        init(worker_id)
    sys.excepthook = _all_but_lost_connections  # of the thread that hands over batches
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()


def _all_but_lost_connections(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, at)


def _exit_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
