"""Tests that a work folder belongs to one run; what cannot be written to is refused before anything else."""

import errno
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest
from refusals import raises_one_line

from vil_dense.mm.engine import work_dir_lock


def hold(folder: Path, writing: int) -> None:
    """Locks `folder`, and writes the id of a process that it forks."""
    work_dir_lock.lock_work_dir(str(folder))
    if child := os.fork():
        os.write(writing, str(child).encode())
    time.sleep(60)


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path):
    """Tests it also where the first is killed while a process that it forked lives on."""
    reading, writing = os.pipe()
    first = multiprocessing.get_context("fork").Process(target=hold, args=[tmp_path / "run", writing])
    first.start()
    child = int(os.read(reading, 100))
    try:
        names = (tmp_path / "run", f"process {first.pid}", socket.gethostname(), "--work-dir")
        with raises_one_line(OSError, *names):
            work_dir_lock.lock_work_dir(str(tmp_path / "run"))
        first.kill()
        first.join()
        os.kill(child, 0)  # is alive
        work_dir_lock.lock_work_dir(str(tmp_path / "run"))
        work_dir_lock.lock_work_dir(str(tmp_path / "run"))  # one's own
    finally:
        os.kill(child, 9)
        os.close(reading), os.close(writing)
    assert (tmp_path / "run/.lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


@pytest.mark.parametrize("folder", ["file/run", "file"])
def test_a_folder_that_cannot_be_made(folder: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^[^\n]*(Not a directory|File exists)[^\n]*$"):
        work_dir_lock.lock_work_dir(str(tmp_path / folder))


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with raises_one_line(OSError, tmp_path, "Read-only"):
        work_dir_lock.lock_work_dir(str(tmp_path))


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(work_dir_lock.fcntl, "flock", refuse)
    work_dir_lock.lock_work_dir(str(tmp_path))
    assert "not locked against a second run" in capsys.readouterr().out
