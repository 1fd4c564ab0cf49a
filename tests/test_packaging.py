"""Tests the project as a whole: one version, short files, a bare top level."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import vil_dense

ROOT = Path(__file__).parents[1]
FIXED = {"README.md", "configs", "setup.cfg", "tests", "tools", "vil_dense"}
NEEDED_BY_TOOLS = {"LICENSE", "Makefile", "model-index.yml", "pyproject.toml", "requirements.txt"}


def test_one_version() -> None:
    assert version("vil_dense") == vil_dense.__version__


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "vil_dense").rglob("*.py")}
    assert lengths
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 400} == {}


def test_top_level_is_bare() -> None:
    """Tests all files that git holds or would add; ignored ones do not count."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    top = {file.split("/")[0] for file in files if not file.startswith(".")}
    assert FIXED - top == set()
    assert top - FIXED - NEEDED_BY_TOOLS == set()


def test_pages_are_not_packed(tmp_path: Path) -> None:
    """Tests what setuptools takes into a wheel: modules, and the data that setup.cfg names."""
    build = ["-c", "import setuptools; setuptools.setup()", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    packed = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(packed) > 50
    assert [str(path) for path in packed if path.suffix != ".py"] == ["vil_dense/medical/bundle/schema.json"]
