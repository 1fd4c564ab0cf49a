"""Runs command lines in the test's own process, where a user would have a process for each."""

import io
import runpy
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from forget_runs import forget_runs
from quick_runs import quicken_runs

ROOT = Path(__file__).parents[2]


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs `tools/<first word>.py` with the other words as `run_script` does, and returns its exit code."""
    tool, *arguments = shlex.split(line)
    return run_script(f"tools/{tool}.py", arguments, monkeypatch)


def run_script(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs a script in the root of the repository as a quick run (`quicken_runs`), and returns its exit code."""
    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("RANK", raising=False)
        quicken_runs(patch)
        folder = (ROOT / script).parent  # which Python puts first for a script
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            return end.code or 0
        finally:
            forget_runs()
    return 0


class Done(NamedTuple):
    """Holds what a command left, by the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def run_tool(tool: str, *args: object) -> Done:
    """Runs `tools/{tool}.py` as `run_script` does."""
    with (
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        code = run_script(f"tools/{tool}.py", list(map(str, args)), patch)
    return Done(code, out.getvalue(), err.getvalue())
