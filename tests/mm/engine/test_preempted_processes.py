"""Tests SIGTERM where other processes are: loader processes, children, and a command that has not begun."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from preempted_runs import handler_restored, runner, stop  # noqa: F401
from refusals import assert_one_line
from torch.utils.data import DataLoader

from vil_dense.mm.engine.failures import resume_point
from vil_dense.mm.engine.hooks.preemption import (
    REQUEUE,
    PreemptionHook,
    SigtermBlockedContext,
    block_sigterm,
    requeue_on_preemption,
)

ROOT = Path(__file__).parents[3]


def test_workers_outlast_the_signal(tmp_path: Path):
    """Sends it to them too, as Slurm does: the batches of the step still come."""

    class TellAll(Hook):
        def after_train_iter(self, run, batch_idx, data_batch=None, outputs=None) -> None:
            if run.iter == 1:
                pids = [worker.pid for worker in run.train_loop.dataloader_iterator._iterator._workers]
                subprocess.run(["kill", *map(str, (*pids, os.getpid()))], check=True)
                time.sleep(0.2)
                assert all(worker.is_alive() for worker in run.train_loop.dataloader_iterator._iterator._workers)

    run = runner(tmp_path, workers=1)
    run.register_hook(TellAll())
    stop(run)
    assert resume_point(str(tmp_path)).endswith("iter_2.pth")


def test_workers_of_a_validation_that_was_made_up_for_outlast_it_too(tmp_path: Path):
    """Makes up for that of step 4, before the first step."""
    runner(tmp_path, type="IterBasedTrainLoop", max_iters=4).train()
    val = DataLoader([dict(inputs=torch.zeros(3))] * 2, num_workers=1, persistent_workers=True)

    class TellAll(Hook):
        def after_train_iter(self, run, batch_idx, data_batch=None, outputs=None) -> None:
            pids = [worker.pid for worker in val._iterator._workers]
            subprocess.run(["kill", *map(str, (*pids, os.getpid()))], check=True)
            time.sleep(0.2)
            assert all(worker.is_alive() for worker in val._iterator._workers)

    run = runner(tmp_path, resume=True, val=val)
    run.register_hook(TellAll())
    stop(run)
    assert resume_point(str(tmp_path)).endswith("iter_5.pth")


MASKS = """
import re, signal, time
from functools import partial
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from vil_dense.mm.engine.hooks.preemption import SigtermBlockedContext, block_sigterm

class Masks(list):
    def __getitem__(self, index):
        time.sleep(0.5)  # by now one thread waits for the signal, which shows as not blocked
        tasks = Path("/proc/self/task").glob("*/status")
        masks = [int(re.search(r"SigBlk:\\s*(\\w+)", task.read_text())[1], 16) for task in tasks]
        return [mask >> (signal.SIGTERM - 1) & 1 for mask in masks]

torch.set_num_threads(2)
init = partial(block_sigterm, None)
context = SigtermBlockedContext()
loader = DataLoader(Masks([0]), num_workers=1, worker_init_fn=init, multiprocessing_context=context, collate_fn=list)
print([sorted(blocked) for (blocked,) in loader], signal.pthread_sigmask(signal.SIG_BLOCK, {}))
"""


@pytest.mark.slow
def test_no_thread_of_a_worker_hears_it(tmp_path: Path):
    """Tests all threads but the one that waits for it.

    Torch starts another before a loader process can do anything about it, once its parent has set a number of threads.
    """
    done = subprocess.run([sys.executable, "-c", MASKS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[[0, 1, 1]] set()"
    run = runner(tmp_path, val=DataLoader([dict(inputs=torch.zeros(3))], num_workers=1))
    run._val_loop = run.build_val_loop(run._val_loop)
    PreemptionHook().before_run(run)
    assert isinstance(run.val_loop.dataloader.multiprocessing_context, SigtermBlockedContext)


def test_its_parent_can_end_a_worker():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        block_sigterm(lambda worker_id: os.write(writing, f"worker {worker_id}".encode()), 3)
        time.sleep(60)
        os._exit(1)
    assert os.read(reading, 100) == b"worker 3"
    time.sleep(0.2)
    began = time.monotonic()
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and time.monotonic() - began < 5
    os.close(reading), os.close(writing)


def end_before_the_first_step(errors: Path) -> None:
    """Ends a child by SIGTERM, and then itself, in a command that has not begun to train; stderr goes to `errors`."""
    sys.stderr = errors.open("w", buffering=1)
    reading, writing = os.pipe()
    with requeue_on_preemption():
        child = os.fork()
        if not child:
            os.write(writing, b"ready")  # Python forgets signals that arrive before
            time.sleep(60)
            os._exit(1)
        os.read(reading, 5)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_before_the_first_step_it_ends_the_process_at_once(tmp_path: Path):
    process = multiprocessing.get_context("fork").Process(target=end_before_the_first_step, args=[tmp_path / "errors"])
    process.start()
    process.join(timeout=30)
    assert process.exitcode == REQUEUE
    assert_one_line((tmp_path / "errors").read_text().splitlines()[-1], "SIGTERM", "--resume", "75")


def test_train_is_requeued_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    main = runpy.run_path(str(ROOT / "tools/train.py"))["main"]
    monkeypatch.setitem(main.__globals__, "build", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["tools/train.py", "config.py"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == REQUEUE
