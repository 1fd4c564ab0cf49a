"""Locks a work folder, so that only one run at a time writes to it."""

import errno
import fcntl
import os
import socket
from pathlib import Path

from mmengine.logging import print_log

_held: dict[Path, int] = {}


def lock_work_dir(work_dir: str) -> None:
    """Creates the folder and locks it until this process ends; the system releases the lock even after a kill.

    Raises:
        OSError: the folder cannot be created or written to, or another process trains in it.
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
                f"the work folder {work_dir} is in use by {owner}: wait until it ends, "
                "or choose another with --work-dir"
            ) from None
        print_log(f"work folder: not locked against a second run: no locks on this file system ({error.strerror})")
        return
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[folder] = handle


def _close_in_child() -> None:
    """Closes the locks in a child process; loader processes that outlive a killed run would keep them otherwise."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_close_in_child)
