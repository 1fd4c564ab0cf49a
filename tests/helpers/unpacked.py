"""Reads what a file holds, also where it is compressed."""

import zipfile
from pathlib import Path


def unpacked(path: Path) -> bytes:
    """Returns the content of a file, of an archive that of all its records."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())
