"""Writes the folder of a bundle."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vil_dense.files import save_json, whole_folder
from vil_dense.medical.bundle import configs
from vil_dense.medical.bundle.metadata import metadata
from vil_dense.medical.bundle.torchscript import save_torchscript
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.networks.nets import OWN

VISION_LSTM = "A Vision-LSTM (ViL, arXiv 2406.04303) encoder-decoder for volumes, trained with vil_dense."
LOGGING = """[loggers]
keys=root

[handlers]
keys=console

[formatters]
keys=line

[logger_root]
level=INFO
handlers=console

[handler_console]
class=StreamHandler
level=INFO
formatter=line
args=(sys.stdout,)

[formatter_line]
format=%(asctime)s %(levelname)s %(message)s
"""
"""Settings of Python's `logging` for `python -m monai.bundle`: what the engines report goes to the screen."""
LICENCE = "Weights inherit the licence of the data they were trained on: name the data and its licence here.\n"


def write_bundle(
    out: Path,
    plan: Plan,
    network: Mapping[str, Any],
    model: nn.Module,
    *,
    windows: SlidingWindow | None = None,
    training: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> str:
    """Writes a complete bundle, or nothing if it fails; returns a sentence about its TorchScript.

    Args:
        out: folder of the bundle; it has to be new or empty.
        network: `type` and options, see `configs.network_config`.
        model: the network, with its weights.
        windows: of inference and validation; default: the plan's patch, overlapping by half.
        training: keywords of `configs.train`.
        about: see `metadata.metadata`.
        texts: more files by their paths in the bundle; docs/README.md is the model card.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: see `configs.network_config`.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: a bundle needs a folder of its own")
    windows = windows or SlidingWindow.of(plan)
    config = configs.network_config(plan, network)
    plan = json.loads(json.dumps(plan))
    described = dict(description=VISION_LSTM) if network["type"] in OWN else {}
    files = {
        "metadata": metadata(plan, {**described, **(about or {})}),
        "inference": configs.inference(plan, config, windows),
        "train": configs.train(plan, config, windows, **(training or {})),
        "evaluate": configs.evaluate(),
        "multi_gpu_train": configs.multi_gpu_train(),
        "multi_gpu_evaluate": configs.multi_gpu_evaluate(),
        "onnx_export": configs.onnx_export(len(plan["channels"]), plan["patch_vox"]),
        "schema": json.loads(resources.files("vil_dense.medical.bundle").joinpath("schema.json").read_text()),
    }
    with whole_folder(out) as part:
        for folder in ("configs", "models", "docs"):
            (part / folder).mkdir()
        for name, content in files.items():
            save_json(part / "configs" / f"{name}.json", content)
        for name, text in {"configs/logging.conf": LOGGING, "docs/data_license.txt": LICENCE, **(texts or {})}.items():
            (part / name).write_text(text)
        torch.save(model.state_dict(), part / "models/model.pt")
        window = (1, len(plan["channels"]), *plan["patch_vox"])
        known = dict(inference=files["inference"])
        return save_torchscript(model.eval(), window, part / "models/model.ts", files["metadata"], known)
