"""A work folder belongs to one run; what cannot be written to is refused before anything else."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vil_dense.mm.engine import work_dir_lock

ROOT = Path(__file__).parents[3]
HOLDER = (
    "import sys, time; from vil_dense.mm.engine.work_dir_lock import lock_work_dir; "
    "lock_work_dir(sys.argv[1]); print('held', flush=True); {then}"
)


def process(folder: Path, then: str) -> subprocess.Popen:
    """Holds `folder` and does `then`; returns when it holds it."""
    command = [sys.executable, "-c", HOLDER.format(then=then), str(folder)]
    started = subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, text=True)
    assert "held\n" in iter(started.stdout.readline, "")
    return started


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path):
    """Also where the first is killed while a process that it forked lives on."""
    fork = "import os, signal; child = os.fork(); print(child, flush=True) if child else None; time.sleep(60)"
    first = process(tmp_path / "run", fork)
    child = int(first.stdout.readline())
    try:
        with pytest.raises(OSError) as refused:
            work_dir_lock.lock_work_dir(str(tmp_path / "run"))
        assert str(refused.value) == (
            f"the work folder {tmp_path / 'run'} is in use by process {first.pid} on {socket.gethostname()}: "
            "wait until it ends, or choose another with --work-dir"
        )
        first.kill()
        first.wait()
        os.kill(child, 0)  # is alive
        work_dir_lock.lock_work_dir(str(tmp_path / "run"))
        work_dir_lock.lock_work_dir(str(tmp_path / "run"))  # one's own
    finally:
        os.kill(child, 9)
        first.stdout.close()
    assert (tmp_path / "run/.lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


@pytest.mark.parametrize("folder", ["file/run", "file"])
def test_a_folder_that_cannot_be_made(folder: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"^the work folder \S+ cannot be written to \((Not a directory|File exists)\): choo"
    ):
        work_dir_lock.lock_work_dir(str(tmp_path / folder))


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=rf"^the work folder {tmp_path} cannot be written to \(Read-only file system\): "):
        work_dir_lock.lock_work_dir(str(tmp_path))


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(work_dir_lock.fcntl, "flock", refuse)
    work_dir_lock.lock_work_dir(str(tmp_path))
    assert "not locked against a second run" in capsys.readouterr().out
