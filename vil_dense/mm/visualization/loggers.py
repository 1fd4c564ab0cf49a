"""Adds loggers of MMEngine to a config: TensorBoard, W&B, MLflow. All write below the work folder, to no server."""

import importlib.util
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

LOGGERS: dict[str, dict[str, Any]] = {
    "tensorboard": dict(type="TensorboardVisBackend"),
    "wandb": dict(type="WandbVisBackend", init_kwargs=dict(mode="offline", project="vil_dense")),
    "mlflow": dict(type="MLflowVisBackend"),
}
"""Backends of MMEngine's visualizer; a name is also that of the package that one needs."""


def add_loggers(cfg: Config, names: Sequence[str]) -> None:
    """Adds loggers to those of the config, in place.

    Raises:
        ValueError: a logger is unknown, or its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"loggers are {', '.join(LOGGERS)}, got {name}")
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"logging to {name} needs the package {name}: pip install {name}")
        cfg.setdefault("visualizer", dict(type="Visualizer"))
        backends = cfg.visualizer.get("vis_backends") or [dict(type="LocalVisBackend")]
        if LOGGERS[name]["type"] not in [backend["type"] for backend in backends]:
            cfg.visualizer.vis_backends = [*backends, dict(LOGGERS[name])]
