"""Tests the helpers for files: hidden files, partial files, encodings, and memory."""

import csv
import hashlib
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np

from vil_dense.files import describe_skipped, sha256, sweep


def test_hidden_folders_hold_no_skipped_files(tmp_path: Path) -> None:
    for name in (".git/HEAD", "a/.ipynb_checkpoints/b.png", "a/.DS_Store", "a/Thumbs.db", "a/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert describe_skipped(tmp_path, [tmp_path / "a/b.png"]) == ""
    (tmp_path / "a/c.txt").touch()
    assert describe_skipped(tmp_path, [tmp_path / "a/b.png"]) == f"1 file in {tmp_path} is not read: a/c.txt"


def test_a_partial_folder_is_not_swept(tmp_path: Path) -> None:
    """Tests a training that resumes where a model or a bundle is being written beside its checkpoints."""
    (tmp_path / ".part-1-bundle").mkdir()
    (tmp_path / ".part-1-iter_2.pth").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".part-1-bundle"]


def test_a_large_file_is_hashed_in_blocks(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(2**24)
    (tmp_path / "weights.pth").write_bytes(content)
    tracemalloc.start()
    found = sha256(tmp_path / "weights.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == hashlib.sha256(content).hexdigest() and peak < 2**22


def test_tables_are_utf8_in_every_locale(tmp_path: Path) -> None:
    program = (
        f"from pathlib import Path; from vil_dense.files import save_csv; save_csv(Path({str(tmp_path)!r}) / 'a.csv', "
    )
    program += r"[dict(case='Sch\u00e4del \u65e5')])"
    plain = dict(os.environ, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    subprocess.run([sys.executable, "-c", program], env=plain, check=True, capture_output=True)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [dict(case="Sch\u00e4del \u65e5")]
