"""Lets every test of the tools start in mmseg's scope and with no other test's logs; runs their command lines."""

import shlex
from collections.abc import Callable

import pytest
from fresh_mmengine import fresh_mmengine  # noqa: F401
from run_command import run_command


@pytest.fixture
def run(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Returns a function that runs a tool in this process: its exit code, stdout and stderr."""

    def call(tool: str, *args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(shlex.join(map(str, (tool, *args))), monkeypatch)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
