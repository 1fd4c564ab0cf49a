"""Reads the configs in work folders of trainings on volumes."""

from pathlib import Path

from mmengine.config import Config

from vil_dense.files import read_json
from vil_dense.mm.cli.arguments import load_config
from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.mm.utils.run_folders import find_config, last_checkpoint


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
    cfg = load_config(find_config(run))
    resolve_plan(cfg)
    check_volumes(cfg)
    return cfg


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
