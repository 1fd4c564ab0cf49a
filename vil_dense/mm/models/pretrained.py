"""Reads weights of a finished run, or published ones, for a backbone and checks that they fit."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from vil_dense.backbones.checkpoint import to_own
from vil_dense.layers.lora import merge_lora
from vil_dense.mm.utils.safe_load import check_finite, load_safely, weights_of
from vil_dense.state_files import read_state

DEFAULT_DIRECTION = "bi-alternating"


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Prefixes each ValueError within the context with the name of the file."""
    try:
        yield
    except ValueError as error:
        raise error if path in str(error) else ValueError(f"{path}: {error}") from None


def checkpoint_of(init_cfg: object) -> str:
    """Returns the file that an `init_cfg` names; raises ValueError if it has another form."""
    if not isinstance(init_cfg, dict) or set(init_cfg) != {"type", "checkpoint"}:
        raise ValueError(f"init_cfg is dict(type='Pretrained', checkpoint=FILE), got {init_cfg}")
    return str(init_cfg["checkpoint"])


def read_pretrained(path: str, direction: str) -> tuple[dict[str, Tensor], str]:
    """Reads the weights of a network under our names; those of a segmentor's other parts are as `to_own` leaves them.

    Returns:
        The weights, or their moving average (EMA) if the run saved one; and "weights" or "EMA weights" for the log.

    Raises:
        FileNotFoundError, ValueError: as `load_safely`, `read_state` and `to_own`; or the weights were trained with
            another `direction`, which their shapes do not always show.
    """
    if path.endswith(".safetensors"):
        weights = read_state(path)
        check_finite(weights, path)
        return to_own(weights, direction=direction), "weights"
    checkpoint = load_safely(path)
    trained = trained_direction(checkpoint)
    if trained not in (None, direction):
        raise ValueError(f"{path} was trained with direction={trained!r}, and this network has direction={direction!r}")
    # MMEngine's EMAHook puts the average into `state_dict` and the weights of the last step beside it.
    kind = "EMA weights" if "ema_state_dict" in checkpoint else "weights"
    weights = merge_lora(weights_of(checkpoint))
    check_finite(weights, path)
    return to_own(weights, direction=direction), kind


def trained_direction(checkpoint: dict) -> str | None:
    """Returns `direction` from the config that a run of this package saves in its checkpoint; None without a config.

    The config is parsed as text; none of its code is run.
    """
    meta = checkpoint.get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    try:
        statements = ast.parse(text).body if isinstance(text, str) else []
    except (SyntaxError, ValueError):
        return None
    for statement in statements:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "model" for t in statement.targets
        ):
            options = [node for node in ast.walk(statement.value) if isinstance(node, ast.keyword)]
            values = {option.arg: option.value.value for option in options if isinstance(option.value, ast.Constant)}
            kinds = [
                option.value.value
                for option in options
                if option.arg == "type" and isinstance(option.value, ast.Constant)
            ]
            if {"ViL", "ImageClassifier"} & set(kinds):
                direction = values.get("direction", DEFAULT_DIRECTION)
                return direction if isinstance(direction, str) else None
    return None
