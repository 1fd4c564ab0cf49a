"""Loggers beside MMEngine's own: added to a config once, and refused in a sentence where their package is missing."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from refusals import raises_one_line

from vil_dense.mm.visualization.loggers import LOGGERS, add_loggers


@pytest.mark.parametrize("name", LOGGERS)
def test_backend_is_added_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    cfg = Config.fromfile("configs/vil_upernet_sample.py")
    add_loggers(cfg, [name, name])
    types = [backend["type"] for backend in cfg.visualizer.vis_backends]
    assert types == ["LocalVisBackend", LOGGERS[name]["type"]] and VISBACKENDS.get(types[1]) is not None
    bare = Config(dict(model=dict()))
    add_loggers(bare, [name])
    assert [backend["type"] for backend in bare.visualizer.vis_backends] == types


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with raises_one_line(ValueError, "wandb", "pip install"):
        add_loggers(Config(dict(model=dict())), ["wandb"])
    with raises_one_line(ValueError, "tensorboard, wandb, mlflow", "neptune"):
        add_loggers(Config(dict(model=dict())), ["neptune"])


@pytest.mark.parametrize("name", LOGGERS)
def test_scalars_arrive(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    backend = VISBACKENDS.build(dict(LOGGERS[name], save_dir=str(tmp_path)))
    backend.add_scalar("loss", 1.0, 3)
    backend.close()
    assert any(path.is_file() for path in tmp_path.rglob("*"))
