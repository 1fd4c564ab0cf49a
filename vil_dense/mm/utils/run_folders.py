"""Finds the config and the checkpoint in the work folder of a training."""

from pathlib import Path

from vil_dense.files import read_json


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


def find_runs(folder: Path) -> list[tuple[Path, Path]]:
    """Returns work folders and checkpoints: of `fold_0`, `fold_1`, ..., or of the folder itself if it has none.

    Raises:
        FileNotFoundError: a run has no checkpoint.
        ValueError: some folds of a cross-validation are not finished.
    """
    folds = [path for path in folder.glob("fold_*") if path.name.removeprefix("fold_").isdigit()]
    folds.sort(key=lambda path: int(path.name.removeprefix("fold_")))
    trained = [path for path in folds if (path / "trained.json").is_file()]
    if trained and (rest := [path.name for path in folds if path not in trained]):
        raise ValueError(
            f"{', '.join(rest)} of {folder} is not finished: go on with cross_validate.py, or name the finished folds, "
            f"such as {trained[0]}"
        )
    if trained:
        return [(path, path / read_json(path / "trained.json")["checkpoint"]) for path in folds]
    return [(path, last_checkpoint(path)) for path in folds or [folder]]
