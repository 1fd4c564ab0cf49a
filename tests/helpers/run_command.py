"""Runs command lines in the test's own process, where a user would have a process for each."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest
from forget_runs import forget_runs
from mmengine.runner import Runner

ROOT = Path(__file__).parents[2]


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs `tools/<first word>.py` with the other words, and returns its exit code. Steps that take a second of each
    run and do not matter here are left out: asking compilers for their versions, formatting the config."""
    tool, *arguments = shlex.split(line)
    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("RANK", raising=False)
        patch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **options: (text, False))
        folder = (ROOT / f"tools/{tool}.py").parent  # which Python puts first for a script
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setattr(sys, "argv", [f"tools/{tool}.py", *arguments])
        try:
            runpy.run_path(f"tools/{tool}.py", run_name="__main__")
        except SystemExit as end:
            return end.code or 0
        finally:
            forget_runs()
    return 0
