"""Takes the weights of a pretrained volume network, all but the output layers, or says why they do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from vil_dense.layers.lora import plain_state
from vil_dense.mm.utils.safe_load import check_finite, read_weights

OUTPUTS = "decoder.heads."
"""Prefix of the output layers, which belong to the classes or channels of one training."""


def load_network(network: nn.Module, path: str) -> str:
    """Loads the weights of a checkpoint of the same network, whatever its outputs, and returns a report.

    The output layers stay as they are.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`; or the weights are those of another network: says in what it
            differs, and nothing is loaded.
    """
    weights = read_weights(path)
    check_finite(weights, path)
    saved = {key.removeprefix("network."): value for key, value in weights.items() if key.startswith("network.")}
    own = plain_state(network)
    taken = {key: value for key, value in saved.items() if not key.startswith(OUTPUTS)}
    wanted = {key: value for key, value in own.items() if not key.startswith(OUTPUTS)}
    if not taken:
        raise ValueError(f"{path} holds no volume network: none of its {len(weights)} tensors begins with 'network.'")
    shapes = {key for key in wanted if key in taken and taken[key].shape != wanted[key].shape}
    faults = {
        "missing": sorted(wanted.keys() - taken.keys()),
        "without a place": sorted(taken.keys() - wanted.keys()),
        "of another shape": sorted(shapes),
    }
    if any(faults.values()):
        counts = ", ".join(f"{len(keys)} {what} ({keys[0]})" for what, keys in faults.items() if keys)
        theirs, ours = describe_widths(taken), describe_widths(wanted)
        differ = f"widths {theirs} instead of {ours}; " if theirs != ours else ""
        raise ValueError(
            f"{path} is of another network: {differ}tensors {counts}. Widths, depths, strides and kernels come from "
            "config and plan: pretrain and fine-tune with the same"
        )
    network.load_state_dict(taken, strict=False)
    new = [key for key in own if key.startswith(OUTPUTS)]
    return f"{len(taken)} tensors of {path} taken; new: the output layers, {OUTPUTS}* ({len(new)} tensors)"


def describe_widths(state: Mapping[str, Tensor]) -> str:
    """Returns the widths of the scales of the encoder of a volume network, from its weights."""
    levels = (f"{part}.levels.{n}.conv1.conv.weight" for part in ("encoder", "tokenizer") for n in range(len(state)))
    return ", ".join(str(len(state[key])) for key in levels if key in state)
