"""Loads trained networks for prediction: from a config with checkpoints, the work folder of a training, or a bundle."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from vil_dense.medical.cross_validations import MODEL, read_chosen
from vil_dense.medical.inference.ensemble import Configuration
from vil_dense.medical.inference.predictor import VolumePredictor
from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.mm.utils import safe_load
from vil_dense.mm.utils.run_folders import find_config, find_runs
from vil_dense.mm.utils.safe_load import load_exactly, read_weights
from vil_dense.mm.volumes.segmentor import VolumeSegmentor


def load_predictor(
    source: str | PathLike[str], *checkpoints: str | PathLike[str], device: str = "cpu", **options: Any
) -> VolumePredictor:
    """Returns the predictor of trained networks, whose scores are averaged.

    A config is a program and is run: name only those that you trust. Checkpoints and bundles run no code.

    Args:
        source: a config; the work folder of a training, whose own config and last checkpoint are used, or of a
            cross-validation, with the networks of all its folds; a bundle; or a choice of tools/volumes/find_best.py.
        checkpoints: of the config's model; for a work folder in place of its last one.
        options: `mirror`, `largest` and `steps` of `VolumePredictor`.

    Raises:
        FileNotFoundError: something of these does not exist, or the folder is neither a run nor a bundle.
        ValueError: the config segments no volumes, or the checkpoint is of another model.
    """
    source = Path(source)
    bundle = (source / "configs/inference.json").is_file()
    if checkpoints and (bundle or source.suffix == ".json"):
        raise ValueError(f"{source} is a {'bundle' if bundle else 'choice'}, which has its weights: name no checkpoint")
    if bundle:
        return VolumePredictor.load(source, device=device, **options)
    config, files = source, [str(path) for path in checkpoints]
    if source.suffix == ".json":
        return _of_choice(source, device, **options)
    if source.is_dir() and files:
        config = find_config(source)
    elif source.is_dir():
        runs = find_runs(source)
        config, files = find_config(runs[0][0]), [str(checkpoint) for _, checkpoint in runs]
    if not config.is_file():
        raise FileNotFoundError(f"no config, work folder of a training, or bundle at {source}")
    if not files:
        raise ValueError(f"{source} is a config: name the checkpoints of its model as well")
    safe_load.install()  # files that the config names
    cfg = Config.fromfile(config)
    resolve_plan(cfg)
    kind = cfg.get("model", {}).get("type")
    if kind != "VolumeSegmentor":
        raise ValueError(f"{config} segments no volumes: its model is a {kind}, not a VolumeSegmentor")
    networks, plan, windows = load_configuration(cfg.model, files, device)
    return VolumePredictor(networks, plan, windows, device=device, **options)


def _of_choice(path: Path, device: str, **options: Any) -> VolumePredictor:
    """Returns the predictor of a choice: its configurations, and its steps after the prediction."""
    chosen = read_chosen(path)
    first, *others = (
        load_configuration(model, files, device) for model, files in zip(chosen.models, chosen.checkpoints, strict=True)
    )
    return VolumePredictor(*first, others=others, device=device, **dict(steps=chosen.steps) | options)


def predicting(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a config's model that its predictions depend on."""
    return {key: model[key] for key in MODEL if key in model}


def load_configuration(
    model: Mapping[str, Any], checkpoints: Sequence[str | Path], device: torch.device | str
) -> Configuration:
    """Returns the segmentors of `load_segmentors` with their plan and windows."""
    segmentors = load_segmentors(model, checkpoints, device)
    return Configuration(segmentors, segmentors[0].plan, segmentors[0].windows)


def load_segmentors(
    model: Mapping[str, Any], checkpoints: Sequence[str | Path], device: torch.device | str
) -> list[VolumeSegmentor]:
    """Returns a segmentor for each checkpoint, in eval mode on `device`.

    Args:
        model: of a config, or `predicting` of it.
        checkpoints: files of weights; no code in them is run.

    Raises:
        ValueError, FileNotFoundError: see `safe_load.read_weights` and `safe_load.load_exactly`.
    """
    found = []
    for checkpoint in checkpoints:
        weights = read_weights(str(checkpoint))
        segmentor = VolumeSegmentor(**predicting(model))
        load_exactly(segmentor, weights, str(checkpoint))
        found.append(segmentor.to(device).eval())
    return found
