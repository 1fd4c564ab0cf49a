"""Finds the config and the checkpoint in the work folder of a training on volumes."""

from pathlib import Path

from mmengine.config import Config

from vil_dense.mm.cli.arguments import load_config
from vil_dense.mm.engine.resolve_config import resolve_plan


def check_volumes(cfg: Config) -> None:
    """Checks that the model of a config segments volumes.

    Raises:
        ValueError: it is another model.
    """
    if cfg.model.type != "VolumeSegmentor":
        raise ValueError(f"{cfg.filename} segments no volumes: its model is a {cfg.model.type}, not a VolumeSegmentor")


def run_config(run: Path) -> Config:
    """Reads the config in the work folder of a training, with its plan.

    Raises:
        FileNotFoundError: the folder holds no config, or several.
        ValueError: the config is not of volumes.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"no run at {run}")
    found = sorted(run.glob("*.py"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{run} is no work folder of a training: one config is expected in it, got {len(found)}"
        )
    cfg = load_config(found[0])
    resolve_plan(cfg)
    check_volumes(cfg)
    return cfg


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


def find_runs(folder: Path) -> list[Path]:
    """Returns the work folders `fold_0`, `fold_1`, ... of a cross-validation, or the folder itself if it has none."""
    folds = [path for path in folder.glob("fold_*") if path.name.removeprefix("fold_").isdigit()]
    return sorted(folds, key=lambda path: int(path.name.removeprefix("fold_"))) or [folder]
