"""Checks how commands end: exit codes, one line on stderr, and nothing when nobody reads."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import raises_one_line

from vil_dense import files
from vil_dense.errors import INTERRUPTED, PIPE_CLOSED, ended_by, exit_on_error
from vil_dense.files import read_json, whole_folder, write_whole

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def swallow(ending: BaseException) -> None:
    """Raises as a library does that catches everything."""
    try:
        raise ending
    except:  # noqa: E722
        raise SyntaxError("Failed to format the config file") from None


@pytest.mark.parametrize(
    ("ending", "code"), [(KeyboardInterrupt(), INTERRUPTED), (SystemExit(75), 75), (ValueError("no"), 2)]
)
def test_what_a_library_swallows_still_ends_the_program(ending: BaseException, code: int) -> None:
    with pytest.raises(SystemExit) as end, exit_on_error():
        swallow(ending)
    assert end.value.code == code


def test_an_error_without_an_interrupt_has_none() -> None:
    error = ValueError("a")
    error.__cause__ = KeyError("b")
    assert ended_by(error) is None and ended_by(None) is None


def program(body: str) -> list[str]:
    return [sys.executable, "-c", f"from vil_dense.errors import exit_on_error\nwith exit_on_error():\n    {body}"]


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_no_error(lines: int) -> None:
    with subprocess.Popen(
        program(f"import time; time.sleep(0.3); [print('line', n) for n in range({lines})]"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as child:
        child.stdout.close()
        errors = child.stderr.read()
    assert child.returncode == PIPE_CLOSED == 128 + signal.SIGPIPE and errors == b""


def test_a_full_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(program("print(1)"), stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"pipe could not be written"):
        write_whole(tmp_path / "pipe", lambda part: part.write_text("a"))
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_of_a_folder_goes(tmp_path: Path) -> None:
    """Removes only that of processes that are gone: another one may be writing the same folder."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, running = (tmp_path / f".part-{number}-data" for number in (gone.pid, os.getppid()))
    for folder in (left, running):
        folder.mkdir()
        (folder / "a").touch()
    with whole_folder(tmp_path / "data") as part:
        (part / "b").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [running.name, "data"]


def test_what_has_no_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless, large = tmp_path / "endless.json", tmp_path / "large.json"
    endless.symlink_to("/dev/zero")
    large.write_text("[1, 2]")
    assert read_json(large) == [1, 2]
    monkeypatch.setattr(files, "LARGEST_JSON", 5)
    for path in (endless, large):
        with raises_one_line(ValueError, path):
            read_json(path)
