"""A work folder belongs to one run at a time."""

import errno
import fcntl
import os
import socket
from pathlib import Path

from mmengine.logging import print_log

_held: dict[Path, int] = {}


def lock_work_dir(work_dir: str) -> None:
    """Make the folder and lock it until this process ends, however it does (the system lets go of the lock then).

    Raises:
        OSError: it cannot be made or written to, or another process trains in it.
    """
    folder = Path(work_dir).absolute()
    if folder in _held:
        return
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OSError(
            f"the work folder {work_dir} cannot be written to ({error.strerror}): choose another with --work-dir"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 1000).decode(errors="replace").strip() or "another process"
        os.close(handle)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(
                f"the work folder {work_dir} is in use by {owner}: wait for its end, or choose another with --work-dir"
            ) from None
        print_log(f"work folder: not locked against a second run, this file system has no locks ({error.strerror})")
        return
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[folder] = handle


def _let_go() -> None:
    """In a child process: loaders would keep the locks for as long as they outlive a killed run."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_let_go)
