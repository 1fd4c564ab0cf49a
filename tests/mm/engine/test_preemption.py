"""SIGTERM: a checkpoint after the step and exit code 75; the run that goes on ends as if it had not been stopped."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler, KeyedSampler
from vil_dense.mm.engine.checkpoints import newest
from vil_dense.mm.engine.failures import last_checkpoint
from vil_dense.mm.engine.hooks.preemption import REQUEUE, PreemptionHook, SigtermBlockedContext, block_sigterm
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.utils.safe_load import install, load_safely

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor] | list[Tensor]:
        return dict(loss=self.head(inputs).square().mean()) if mode == "loss" else [inputs]


class Count(BaseMetric):
    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(count=float(len(results)))


class Tell(Hook):
    """Sends SIGTERM to this process during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def runner(
    work_dir: Path, tell: int = 0, *, workers: int = 0, resume: bool = False, val: DataLoader | None = None, **loop
) -> Runner:
    install()
    torch.manual_seed(0)
    data = [dict(inputs=torch.full((3,), float(index))) for index in range(12)]
    epochs = "max_epochs" in loop
    updates, batch_size = loop.pop("updates", 1), loop.pop("batch_size", 2)
    sampler = (KeyedSampler if epochs else KeyedInfiniteSampler)(data, seed=0)
    return Runner(
        Net(),
        str(work_dir),
        train_dataloader=DataLoader(data, batch_size=batch_size, num_workers=workers, sampler=sampler),
        train_cfg=loop or dict(type="IterBasedTrainLoop", max_iters=6, val_interval=2),
        val_dataloader=val,
        val_cfg=val and dict(),
        val_evaluator=val and [Count()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9), accumulative_counts=updates),
        default_hooks=dict(
            checkpoint=dict(type="SafeCheckpointHook", by_epoch=epochs, interval=1 if epochs else 4),
            logger=dict(type="LoggerHook", interval=1),
            stop=PreemptionHook(),
        ),
        custom_hooks=[dict(type="StepSeedHook"), Tell(tell)],
        log_processor=dict(by_epoch=epochs),
        randomness=dict(seed=0),
        load_from=last_checkpoint(str(work_dir)) if resume else None,
        resume=resume,
        experiment_name=f"{work_dir.name}_{resume}",
    )


@pytest.fixture(autouse=True)
def handler_restored():
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


def stop(run: Runner) -> None:
    with pytest.raises(SystemExit) as end:
        run.train()
    assert end.value.code == REQUEUE == 75


def test_the_step_is_saved_and_the_run_goes_on(tmp_path: Path):
    whole = runner(tmp_path / "whole")
    whole.train()
    stop(runner(tmp_path / "cut", tell=3))
    assert last_checkpoint(str(tmp_path / "cut")) == str(tmp_path / "cut/iter_3.pth")
    log = next((tmp_path / "cut").glob("*/*.log")).read_text()
    saved = tmp_path / "cut/iter_3.pth"
    assert f"stopped by SIGTERM after step 3: --resume goes on from {saved} (exit code 75)" in log
    again = runner(tmp_path / "cut", resume=True)
    again.train()
    assert again.iter == 6
    ends = [load_safely(str(tmp_path / name / "iter_6.pth")) for name in ("whole", "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)


def test_a_step_that_was_just_saved_is_not_saved_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saves = []
    save = Runner.save_checkpoint
    monkeypatch.setattr(
        Runner, "save_checkpoint", lambda run, *args, **more: (saves.append(1), save(run, *args, **more))
    )
    stop(runner(tmp_path, tell=4))
    assert len(saves) == 1 and last_checkpoint(str(tmp_path)).endswith("iter_4.pth")


def test_the_pointer_of_an_earlier_run_is_no_checkpoint_of_this_one(tmp_path: Path):
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_3.pth"))
    stop(runner(tmp_path, tell=3))
    assert load_safely(str(tmp_path / "iter_3.pth"))["meta"]["iter"] == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [8, 12])
def test_a_run_goes_on_within_an_epoch(step: int, workers: int, tmp_path: Path):
    """Of six steps each; with the same data, log and end."""
    loop = dict(type="EpochLoop", max_epochs=3)
    runner(tmp_path / "whole", **loop).train()
    stop(runner(tmp_path / "cut", tell=step, workers=workers, **loop))
    saved = tmp_path / f"cut/epoch_1_step_{step - 6}.pth"
    assert newest(str(tmp_path / "cut"))[::2] == (str(saved), [])
    saved_again = load_safely(str(saved))["meta"]
    assert (saved_again["epoch"], saved_again["iter"]) == (1, step)
    again = runner(tmp_path / "cut", workers=workers, resume=True, **loop)
    again.train()
    assert again.iter == 18 and not saved.exists()
    assert sorted(path.name for path in (tmp_path / "cut").glob("*.pth")) == [f"epoch_{n}.pth" for n in (1, 2, 3)]
    ends = [load_safely(str(tmp_path / name / "epoch_3.pth")) for name in ("whole", "cut")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
    losses = [read_scalars(str(tmp_path / name), "loss") for name in ("whole", "cut")]
    assert losses[1] == losses[0] and len(losses[0]) == 18


def test_a_broken_one_within_an_epoch_gives_way_to_the_last_epoch(tmp_path: Path):
    stop(runner(tmp_path, tell=14, type="EpochLoop", max_epochs=3))
    (tmp_path / "epoch_2_step_2.pth").write_bytes(b"")
    (tmp_path / "epoch_3.pth").write_bytes((tmp_path / "epoch_1.pth").read_bytes())  # of an earlier, longer run
    assert newest(str(tmp_path))[0] == str(tmp_path / "epoch_2.pth")


@pytest.mark.parametrize(("step", "batch_size", "end"), [(8, 4, 8 + 2 + 3), (12, 3, 12 + 0 + 4), (6, 4, 6 + 0 + 3 + 3)])
def test_another_batch_size_goes_on_at_the_same_picture(step: int, batch_size: int, end: int, tmp_path: Path):
    """Of twelve; a run of epochs of 6 steps, and then of another number of them."""
    loop = dict(type="EpochLoop", max_epochs=3)
    stop(runner(tmp_path, tell=step, **loop))
    again = runner(tmp_path, resume=True, batch_size=batch_size, **loop)
    again.train()
    assert again.epoch == 3 and again.iter == end


def test_accumulated_gradients_are_applied_first(tmp_path: Path):
    stop(runner(tmp_path, tell=3, updates=2, type="IterBasedTrainLoop", max_iters=6))
    assert last_checkpoint(str(tmp_path)).endswith("iter_4.pth")


def test_another_loop_over_epochs_goes_on_from_the_last_one(tmp_path: Path):
    stop(runner(tmp_path, tell=8, type="EpochBasedTrainLoop", max_epochs=3))
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]


def test_a_sampler_that_cannot_skip_is_refused(tmp_path: Path):
    run = runner(tmp_path, type="EpochLoop", max_epochs=3)
    run._train_dataloader = DataLoader([dict(inputs=torch.zeros(3))])
    with pytest.raises(ValueError, match="an EpochLoop needs a KeyedSampler, got a SequentialSampler"):
        run.train()


def test_workers_outlast_the_signal(tmp_path: Path):
    """Slurm sends it to them too: the batches of the step still come."""

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
    assert last_checkpoint(str(tmp_path)).endswith("iter_2.pth")


def test_workers_of_a_validation_that_was_made_up_for_outlast_it_too(tmp_path: Path):
    """That of step 4, before the first step."""
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
    assert last_checkpoint(str(tmp_path)).endswith("iter_5.pth")


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


def test_no_thread_of_a_worker_hears_it(tmp_path: Path):
    """But the one that waits for it. Torch starts another before a loader process can do anything about it, once its
    parent has set a number of threads."""
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


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Times are for the log alone: by ten seconds at each look, and by more than the run takes."""
    runner(tmp_path / "straight").train()
    now = [time.time()]

    def back() -> float:
        now[0] -= 10
        return now[0]

    monkeypatch.setattr(time, "time", back)
    runner(tmp_path / "back").train()
    ends = [load_safely(str(tmp_path / name / "iter_6.pth")) for name in ("straight", "back")]
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)


EARLY = """
import os, signal, subprocess, sys, time
from vil_dense.mm.engine.hooks.preemption import requeue_on_preemption
reading, writing = os.pipe()
with requeue_on_preemption():
    child = os.fork()
    if not child:
        os.write(writing, b"ready")
        time.sleep(60)
        os._exit(1)
    os.read(reading, 5)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_before_the_first_step_it_ends_the_process_at_once():
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (REQUEUE, str(-signal.SIGTERM))
    assert done.stderr.splitlines()[-1] == "stopped by SIGTERM, with nothing to save: --resume goes on (exit code 75)"


def test_train_is_requeued_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    main = runpy.run_path(str(ROOT / "tools/train.py"))["main"]
    monkeypatch.setitem(main.__globals__, "build", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["tools/train.py", "config.py"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == REQUEUE
