"""Finds config and weights of a trained segmentor: in the work folder of a run, or where they are named."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from vil_dense.layers.lora import merge_lora
from vil_dense.mm.cli.arguments import load_config
from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.engine.resolve.pictures import FOUND
from vil_dense.mm.engine.run_start import newest
from vil_dense.mm.evaluation.protocols import describe
from vil_dense.mm.utils.safe_load import load_safely, read_weights, safe_files, weights_of

CONFIGS = (".py", ".json", ".yaml", ".yml")
METRICS = ("mIoU", "mAcc", "aAcc", "mDice", "mFscore", "mPrecision", "mRecall")
"""Metrics of mmseg's validation that go with a published model."""
DESCRIBED = ("classes", "palette", "label_map", "reduce_zero_label")
"""Lists what MMEngine's checkpoints hold of a data set."""
OF_FOLDERS = {"coding", *FOUND}
"""Lists what they hold as well where a `PictureFolder` was trained on."""


@dataclass
class TrainedModel:
    """Stores a trained segmentor as data, before it is built.

    Attributes:
        cfg: `model` and `test_dataloader` are used.
        weights: the state dict. MMEngine writes averaged weights (EMA) here where a run has them.
        described: classes, palette, label map and `reduce_zero_label` of the data set it was trained on.
        name: the file of the weights, for messages.
        step: of the checkpoint, counted in updates; None if it does not say.
        metrics: of the validation at the step of the checkpoint, where its run logged one.
        about: texts and numbers on the training, for a model card: data set, steps, protocol, parameters.
        graph: the content of an ONNX file, which stands for architecture and weights; empty for a model of torch.
    """

    cfg: Config
    weights: dict[str, Tensor]
    described: dict[str, Any]
    name: str
    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    about: dict[str, str | int] = field(default_factory=dict)
    graph: bytes = b""


def load_trained(
    source: str | Path, *, weights: str | Path | None = None, config: str | Path | None = None
) -> TrainedModel:
    """Reads a trained segmentor; no code of a checkpoint runs, but a config is a program.

    Args:
        source: the work folder of a run, a checkpoint, or a config.
        weights: the checkpoint, where `source` is a config or a folder with several.
        config: the config, where `source` is a checkpoint that has none beside it, or a folder with several.

    Raises:
        FileNotFoundError: there is no such file, or a folder without config or checkpoint.
        ValueError: a file that cannot be used, or several configs.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no run, checkpoint or config at {source}")
    if path.suffix in CONFIGS and path.is_file():
        if weights is None:
            raise ValueError(f"{source} is a config: its checkpoint is given as weights=FILE")
        config = config or path
    elif path.is_dir():
        config = config or find_config(path)
        weights = weights or find_checkpoint(path)
    else:
        config = config or find_config(path.parent)
        weights = weights or path
    with safe_files():
        cfg = load_config(config)
    return with_checkpoint(cfg, str(weights))


def with_checkpoint(cfg: Config, checkpoint: str) -> TrainedModel:
    """Returns a config with the weights of a checkpoint.

    Raises:
        ValueError: the config trains no segmentor of pictures; and as `load_safely` does.
    """
    if "decode_head" not in cfg.model:
        raise ValueError(f"{cfg.filename} is of type {cfg.model.type}, which labels no pictures")
    if checkpoint.endswith(".safetensors"):
        content: dict[str, Any] = dict(state_dict=read_weights(checkpoint))
    else:
        content = load_safely(checkpoint)
    meta = content.get("meta") or {}
    described = describe_data(cfg, meta.get("dataset_meta") or {})
    return TrainedModel(cfg, merge_lora(weights_of(content)), described, checkpoint, step=meta.get("iter"))


def with_record(trained: TrainedModel) -> TrainedModel:
    """Returns the model with what its run recorded: metrics, protocol, data set, steps, number of parameters.

    A published model, which says all that already, is returned as it is.
    """
    if trained.about:
        return trained
    folder, cfg = str(Path(trained.name).parent), trained.cfg
    curves = {name: read_scalars(folder, name) for name in METRICS}
    metrics = {name: curve[trained.step] for name, curve in curves.items() if trained.step in curve}
    dataset = next(config_parts(cfg.test_dataloader.dataset)).get("type", "")
    about: dict[str, str | int] = dict(dataset=re.sub("^Checked|Dataset$", "", str(dataset)) or "own data")
    if metrics:
        about["protocol"] = describe(cfg, "val")
    if trained.step:
        about["step"] = trained.step
    about["parameters"] = sum(x.numel() for name, x in trained.weights.items() if ".running_" not in name)
    return replace(trained, metrics=metrics, about=about)


def describe_data(cfg: Config, described: dict[str, Any]) -> dict[str, Any]:
    """Returns `DESCRIBED` of the data set of the test; what a checkpoint says of its training goes first.

    Raises:
        ValueError: there is no data set of pictures in the config, or it has not one colour for each class.
    """
    if missing := [key for key in DESCRIBED if key not in described]:
        if not cfg.get("test_dataloader"):
            raise ValueError(f"neither checkpoint nor config say the {missing[0]}: the config has no test_dataloader")
        dataset = next(config_parts(cfg.test_dataloader.dataset))
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmseg")):
            built = DATASETS.build({**dataset, "lazy_init": True, "pipeline": []})  # reads no files
        described = {**built.metainfo, **described}
    if not described.get("classes"):
        raise ValueError("the data set of the config names no classes: set metainfo=dict(classes=[...], palette=[...])")
    classes, colours = len(described["classes"]), len(described["palette"] or ())
    if classes != colours:
        raise ValueError(f"the data set has {classes} classes and {colours} colours: set metainfo=dict(palette=[...])")
    return {key: described.get(key) for key in DESCRIBED} | {key: described[key] for key in OF_FOLDERS & set(described)}


def find_config(folder: Path) -> Path:
    """Returns the config that a run wrote to its work folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    found = sorted(folder.glob("*.py"))
    if not found:
        raise FileNotFoundError(f"no config in {folder}, where a run writes its own: give config=FILE")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} has several configs ({names}): give config=FILE")
    return found[0]


def find_checkpoint(folder: Path) -> Path:
    """Returns the best checkpoint of a run, by mIoU if there are several metrics; the last one if there is no best.

    Raises:
        FileNotFoundError: there is none.
        ValueError: see `engine.run_start.newest`.
    """
    best = sorted(folder.glob("best_*.pth"), key=lambda path: ("mIoU" not in path.name, -_step(path), path.name))
    if best:
        return best[0]
    last, _, _ = newest(str(folder))
    if last is None:
        raise FileNotFoundError(f"no checkpoint in {folder} (looked for best_*.pth, iter_*.pth and epoch_*.pth)")
    return Path(last)


def _step(path: Path) -> int:
    number = re.search(r"(\d+)\.pth$", path.name)
    return int(number[1]) if number else 0
