"""Reads checkpoints without running any code from them.

If torch refuses a pickle, MMEngine's loader unpickles it without restrictions. `install` replaces that loader for every
kind of path, so that `load_from`, `resume` and `init_cfg` cannot reach it.
"""

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import yaml
from mmengine.fileio import PickleHandler, YamlHandler, register_handler
from mmengine.fileio.handlers import file_handlers
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from vil_dense.layers.lora import merge_lora, plain_state
from vil_dense.mm.utils.saved_arrays import STAND_INS, with_arrays
from vil_dense.mm.utils.unwrap import unwrap
from vil_dense.state_files import check_archive, check_damage, read_state


def _history_statistic(owner: object, name: str) -> object:
    """Replaces `getattr`, which a pickled `HistoryBuffer` calls only for its statistics."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name!r}")
    return getattr(HistoryBuffer, name)


# What MMEngine's own checkpoints hold beside tensors and plain Python: the log's history, in numpy arrays.
SAFE_GLOBALS = [(_history_statistic, "builtins.getattr"), HistoryBuffer, *STAND_INS]


class BrokenFile(ValueError):
    """Reports a file that is truncated, damaged or not a checkpoint."""


def load_safely(filename: str, map_location: str | torch.device | None = "cpu") -> dict:
    """Reads a checkpoint file; tensors are put on the CPU, whatever `map_location` MMEngine passes.

    On a GPU they would take memory twice while a run resumes, and AdamW's step counts would stay there, although it
    reads them on the CPU at each step.

    Raises:
        BrokenFile: the file is truncated, damaged or not a checkpoint.
        ValueError: it holds something else, or objects whose loading would run code.
        FileNotFoundError: the file does not exist (URLs are not loaded).
        OSError, MemoryError: it cannot be read now, but may be intact; see `check_damage`.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint at {filename}")
    try:
        check_archive(path)
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            checkpoint = with_arrays(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise ValueError(
                f"{filename} was refused: it holds {foreign[1]}, and loading that could run code"
            ) from None
        raise BrokenFile(f"{filename} is truncated, damaged or no checkpoint") from None
    except Exception as error:  # torch's unpickler fails on damaged files in every way, IndexError and others
        check_damage(error, path)
        raise BrokenFile(f"{filename} is truncated, damaged or no checkpoint") from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{filename} holds a {type(checkpoint).__name__}, a checkpoint is a dict")
    weights = weights_of(checkpoint)
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{filename} holds no weights by name: its state_dict is a {type(weights).__name__}")
    if isinstance(checkpoint.get("meta"), dict):
        checkpoint["meta"].pop("config", None)  # MMEngine would execute this string on resume
    return checkpoint


def weights_of(checkpoint: dict) -> dict[str, torch.Tensor]:
    """Returns the state dict inside a checkpoint, or the checkpoint itself if it is one."""
    return checkpoint.get("state_dict", checkpoint)


def read_weights(path: str) -> dict[str, torch.Tensor]:
    """Reads the tensors of a `.safetensors` file or of a checkpoint; raises as `load_safely` and `read_state` do.

    The adapters of LoRA are added to their maps, so that the weights fit a network without adapters.
    """
    return merge_lora(read_state(path) if path.endswith(".safetensors") else weights_of(load_safely(path)))


def load_exactly(model: nn.Module, weights: dict[str, torch.Tensor], filename: str) -> None:
    """Loads all tensors of `weights` into `model` (or into the model that it wraps).

    Raises:
        ValueError: they are of another model; names the number of tensors that do not fit, and one of them.
    """
    model = unwrap(model)
    own = model.state_dict()
    faults = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [
            name for name in own if name in weights and own[name].shape != getattr(weights[name], "shape", None)
        ],
    }
    if any(faults.values()):
        counts = ", ".join(f"{len(names)} {what} ({names[0]})" for what, names in faults.items() if names)
        raise ValueError(f"{filename} is a checkpoint of another model, tensors: {counts}")
    check_finite(weights, filename)
    model.load_state_dict(weights)


def check_finite(weights: dict[str, torch.Tensor], filename: str) -> None:
    """Raises ValueError if a tensor holds NaN or infinity, with which a network predicts one class everywhere."""
    values = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    broken = [name for name, value in values.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(f"{filename} holds NaN or infinite numbers in {len(broken)} tensors ({broken[0]})")


BACKBONES = ("backbone.", "net.", "network.encoder.", "network.stages.", "network.tokenizer.", "network.stage.")
"""Prefixes of the backbone's parameters in classifiers and in segmentors of pictures and volumes."""


def check_backbone(model: nn.Module, weights: dict[str, torch.Tensor], filename: str) -> None:
    """Checks that weights for `load_from` hold the whole backbone (of a classifier: `net`); the head may be new.

    Raises:
        ValueError: a tensor of the backbone is missing or has another shape.
    """
    own = {name: value for name, value in plain_state(model).items() if name.startswith(BACKBONES)}
    fit = [name for name, value in own.items() if getattr(weights.get(name), "shape", None) == value.shape]
    if len(fit) < len(own):
        raise ValueError(
            f"{filename} is a checkpoint of another model: {len(fit)} of {len(own)} tensors of the backbone fit; "
            f"weights of a backbone alone belong in model.{'backbone.' * hasattr(unwrap(model), 'backbone')}init_cfg"
        )
    check_finite(weights, filename)


class RefusingHandler(PickleHandler):
    """Writes pickles as MMEngine's handler does, and refuses to read them."""

    def load_from_fileobj(self, file: object, **kwargs: object) -> None:
        raise ValueError("a .pkl file was refused, since loading it could run code: save its content as .json or .npy")


class SafeYamlHandler(YamlHandler):
    """Reads plain values from YAML, and no objects."""

    def load_from_fileobj(self, file: object, **kwargs: object) -> object:
        return super().load_from_fileobj(file, Loader=yaml.SafeLoader)


@contextmanager
def safe_files() -> Iterator[None]:
    """Applies `install` within the context and restores MMEngine's tables afterwards."""
    schemes, handlers = dict(CheckpointLoader._schemes), dict(file_handlers)
    install()
    try:
        yield
    finally:
        CheckpointLoader._schemes = schemes
        file_handlers.clear()
        file_handlers.update(handlers)


def install() -> None:
    """Makes `load_safely` the only checkpoint loader of MMEngine, and `mmengine.load` safe for pickle and YAML.

    mmseg's losses read `class_weight="FILE"` with `mmengine.load`.
    """
    CheckpointLoader.register_scheme(list(CheckpointLoader._schemes), loader=load_safely, force=True)
    register_handler(["pkl", "pickle"])(RefusingHandler)
    register_handler(["yml", "yaml"])(SafeYamlHandler)
