"""Tests the description of what made a report: the revision is that of this package alone."""

import subprocess
from pathlib import Path

import pytest

import vil_dense
from vil_dense.report import environment


def test_the_revision_is_not_that_of_a_project_around_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installs the package in an environment within the clone of a project, and then tests a clone of its own."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"], ["tag", "-m", "first", "v9"]):
        subprocess.run([*git, *command], check=True)
    for folder, expected in (("site-packages/vil_dense", ""), ("vil_dense", " (v9)")):
        monkeypatch.setattr(vil_dense, "__file__", str(tmp_path / folder / "__init__.py"))
        (tmp_path / folder).mkdir(parents=True)
        assert environment()["vil_dense"] == f"{vil_dense.__version__}{expected}"


def test_a_system_that_does_not_tell_the_cores_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests macOS, whose Python has no `os.sched_getaffinity`."""
    monkeypatch.delattr("os.sched_getaffinity")
    assert "cores" in environment()["processor"]
