"""Reads the configs in work folders of trainings on volumes."""

from pathlib import Path

from mmengine.config import Config

from vil_dense.mm.cli.arguments import load_config
from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.mm.utils.run_folders import find_config


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
