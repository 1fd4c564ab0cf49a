"""Ends runs from outside: each ends in one line, with the last checkpoint whole."""

import logging
import os
import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from refusals import assert_error_line, assert_one_line, raises_one_line
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vil_dense.mm.cli.arguments import report_errors
from vil_dense.mm.engine.failures import RunFault, explain, explain_failures
from vil_dense.mm.utils.safe_load import load_safely

ROOT = Path(__file__).parents[3]


class Run:
    """Has what `explain` looks at of a runner."""

    rank, world_size = 0, 2

    def __init__(self, work_dir: Path, workers: int = 2) -> None:
        self.work_dir, self.model = str(work_dir), nn.Linear(1, 1)
        self.train_dataloader = self.test_dataloader = type("Loader", (), dict(num_workers=workers, batch_size=1))()


def test_ctrl_c(tmp_path: Path, capsys: pytest.CaptureFixture):
    said, run = [], Run(tmp_path)
    run.logger = type("Logger", (), dict(warning=lambda self, text: said.append(text)))()
    with pytest.raises(SystemExit) as end, report_errors(code=1), explain_failures(run):
        raise KeyboardInterrupt
    assert end.value.code == 130 and "Ctrl-C" in capsys.readouterr().err
    assert_one_line(*said, "Ctrl-C", "--resume", "none")
    with pytest.raises(KeyboardInterrupt), report_errors(debug=True):
        raise KeyboardInterrupt


@pytest.fixture
def full_log():
    """Returns a logger of MMEngine's whose file is on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    logger, handler = MMLogger.get_instance("full"), logging.FileHandler("/dev/full")
    logger.addHandler(handler)
    yield logger
    MMLogger._instance_dict.pop("full")
    with suppress(OSError):
        handler.close()


def test_a_log_on_a_full_disk(full_log: MMLogger, capsys: pytest.CaptureFixture):
    """Tests that the run goes on, says once that lines are lost, and ends by its own error."""
    with pytest.raises(SystemExit), report_errors(code=1):
        full_log.info("a line")
        full_log.info("another")
        raise RuntimeError("odd")
    warning, error = capsys.readouterr().err.splitlines()
    assert_one_line(warning, "warning: ", "/dev/full", "No space left on device")
    assert_one_line(error, "error: ", "RuntimeError: odd", "--debug")


def test_only_debug_shows_why_a_line_of_the_log_is_lost(full_log: MMLogger, capsys: pytest.CaptureFixture):
    with report_errors(debug=True):
        full_log.info("a line")
    assert "Traceback" in capsys.readouterr().err


def test_a_line_that_is_no_line_keeps_its_traceback(full_log: MMLogger, capsys: pytest.CaptureFixture):
    """Tests a mistake in the code, which is not the disk's."""
    with report_errors():
        full_log.info("%d", "no number")
    assert "TypeError" in capsys.readouterr().err


KILLED = """
import os, signal
from functools import partial
from torch.utils.data import DataLoader
from vil_dense.mm.cli.arguments import report_errors
from vil_dense.mm.engine.failures import explain_failures
from vil_dense.mm.engine.hooks.preemption import block_sigterm


class Data:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Run:
    train_dataloader = DataLoader(Data(), num_workers=2, worker_init_fn=partial(block_sigterm, None))


with report_errors(code=1), explain_failures(Run()):
    list(Run.train_dataloader)
"""


@pytest.mark.slow
def test_a_killed_worker():
    """Kills it in a process of its own, as torch goes on to raise in the one that lost it."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert_error_line(done.stderr, "SIGKILL", "train_dataloader.num_workers", "2", "--resume")


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), ("/dev/shm",)),
        (
            RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
            ("open", "ulimit -n", "train_dataloader.num_workers"),
        ),
        (RuntimeError("received 0 items of ancdata"), ("ulimit -n",)),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's"),
            ("/dev/shm",),
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            ("loader process 7, 8",),
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. "),
            ("loader process 7 ", "Segmentation fault"),
        ),
        (OSError(28, "No space left on device"), ("No space left on device", "checkpoint: none")),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            ("out of memory (", "CUDA out of memory. Tried"),
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
            ("out of memory (",),
        ),
        (MemoryError(), ("out of memory (", "MemoryError", "batch")),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            ("out of memory (", "CUBLAS_STATUS_ALLOC_FAILED when"),
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            ("out of memory (", "CUDNN_STATUS_ALLOC_FAILED"),
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            ("out of memory (", "cuDNN error: "),
        ),
        (
            RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
            ("out of memory (CUDA error: out of memory)",),
        ),
    ],
    ids=lambda value: value[-1][:20] if isinstance(value, tuple) else type(value).__name__,
)
def test_known_errors(error: Exception, names: tuple[str, ...], tmp_path: Path):
    assert_one_line(explain(error, Run(tmp_path)), *names)


NCCL = """NCCL error in: NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL 2.27
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
Cuda failure {}"""


def test_an_error_of_nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tests that what it says last is the cause, and may be memory."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    said = explain(torch.distributed.DistBackendError(NCCL.format("2 'out of memory'")), Run(tmp_path))
    assert_one_line(said, "out of memory (NCCL error in: ", "NCCL 2.27: Cuda failure 2 'out of memory'", "batch")
    said = explain(torch.distributed.DistBackendError(NCCL.format("700 'an illegal memory access'")), Run(tmp_path))
    assert_one_line(said, "process 0 of 2", "NCCL 2.27: Cuda failure 700 'an illegal memory access'", "--resume")


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError("odd"), KeyError("x")]
)
def test_other_errors_stay_as_they_are(error: Exception, tmp_path: Path):
    with pytest.raises(type(error)) as end, explain_failures(Run(tmp_path)):
        raise error
    assert end.value is error


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"),
            ("test_dataloader.num_workers", "2"),
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            ("test_dataloader.num_workers", "2", "memory"),
        ),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), ("test_dataloader.num_workers=0",)),
        (OSError(28, "No space left on device"), ("No space left on device",)),
        (MemoryError(), ("out of memory (", "MemoryError")),
    ],
    ids=["shared memory", "killed", "exited", "disk", "memory"],
)
def test_known_errors_of_a_test(error: Exception, names: tuple[str, ...], tmp_path: Path):
    """Explains errors of a test, which has nothing to resume, and a loader of its own."""
    said = explain(error, Run(tmp_path), "test")
    assert_one_line(said, *names)
    assert "--resume" not in said and "train_" not in said


def test_what_helps_a_test_that_has_no_memory(tmp_path: Path):
    run, error = Run(tmp_path), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    run.model.decode_head = nn.Identity()
    assert_one_line(explain(error, run, "test"), "windows", "mode=slide", "crop_size", "stride")
    run.test_dataloader.batch_size = 8
    assert_one_line(explain(error, run, "test"), "test_dataloader.batch_size", "8")


def test_ctrl_c_in_a_test_speaks_of_no_resuming(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), explain_failures(Run(tmp_path), "test"):  # which has no logger
        raise KeyboardInterrupt


def test_memory_that_is_not_there(tmp_path: Path):
    """Takes the allocator's own words, whatever they are in this torch."""
    with raises_one_line(RunFault, "out of memory"), explain_failures(Run(tmp_path)):
        torch.empty(2**58)


def test_a_disk_that_fills_up(tmp_path: Path):
    """Lets no file grow beyond 30 kB from step 5 on, and a checkpoint has 100: the one of step 4 stays."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fill(Hook):
        def before_train_iter(self, run, batch_idx, data_batch=None) -> None:
            if run.iter == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))

    run = wide_run(tmp_path)
    run.register_hook(Fill())
    try:
        with pytest.raises(RunFault) as end, explain_failures(run):
            run.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.search(rf"(File too large|No space).*{tmp_path}/iter_4.pth", str(end.value))
    assert load_safely((tmp_path / "last_checkpoint").read_text())["meta"]["iter"] == 4


class WideNet(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 6000)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=self.head(inputs).square().mean())


def wide_run(work_dir: Path) -> Runner:
    return Runner(
        WideNet(),
        str(work_dir),
        train_dataloader=DataLoader([dict(inputs=torch.ones(3))] * 24, batch_size=2),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=12),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4)),
        log_processor=dict(by_epoch=False),
        experiment_name=work_dir.name,
    )
