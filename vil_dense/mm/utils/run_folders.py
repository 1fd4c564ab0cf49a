"""Finds the config and the checkpoint in the work folder of a training."""

from pathlib import Path


def find_config(run: Path) -> Path:
    """Finds the config in the work folder of a training.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no config, or several.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"no run at {run}")
    found = sorted(run.glob("*.py"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{run} is no work folder of a training: one config is expected in it, got {len(found)}"
        )
    return found[0]


def last_checkpoint(run: Path) -> Path:
    """Finds the newest checkpoint of a run; the folder may have been moved.

    Raises:
        FileNotFoundError: the run has saved none.
    """
    note = run / "last_checkpoint"
    if not note.is_file():
        raise FileNotFoundError(
            f"{run} has no last_checkpoint: train first (export_bundle.py also takes a file, --checkpoint)"
        )
    return run / Path(note.read_text().strip()).name
