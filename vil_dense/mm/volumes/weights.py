"""Builds segmentors of volumes with the weights of checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vil_dense.medical.inference.ensemble import Configuration
from vil_dense.medical.studies import MODEL
from vil_dense.mm.utils.safe_load import load_exactly, read_weights
from vil_dense.mm.volumes.segmentor import VolumeSegmentor


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
