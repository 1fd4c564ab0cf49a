"""Converts published weights into our layout, by pure functions from state dict to state dict, and loads them strictly.

Layouts: `raw` the files at the authors' server (key `state_dict`), `v1` and `v2` the stand-alone package, `own` ours.
Ours differs in four things: norm weights are stored whole and not as an offset from 1; a block's q, k, v, convolution,
gates and norm lie together in `scans.<n>`; the grid convolution of a reversed pass acts in the image's own frame, so
its kernel is stored rotated by 180 degrees; and the inner channels are grouped (`layers.vil.BlockDiagonalLinear`).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from vil_dense.backbones.vision_lstm import DIRECTIONS, VisionLSTM
from vil_dense.layers.embed import resize_positions
from vil_dense.layers.lora import plain_state
from vil_dense.ops.cell_weights import NUM_HEADS, QKV_BLOCK

State = dict[str, Tensor]

_SCANS = ("", "_rev", "_du", "_ud")
_HEADS = {
    "raw": {"xlstm.post_blocks_norm": "post_norm", "head.0": "head_norm", "head.1": "head"},
    "v1": {"legacy_norm": "post_norm", "norm": "head_norm", "head": "head"},
    "v2": {"norm": "post_norm", "legacy_norm": "head_norm", "head": "head"},
}
_STEM = {"patch_embed.proj": "patch_embed.proj", "pos_embed": "pos_embed"}
_OPTIONAL = ("post_norm", "head_norm", "head", "cls_token")


def layout_of(state: Mapping[str, Tensor]) -> str:
    """Returns the layout of a state dict, `raw`, `v1`, `v2` or `own`; raises ValueError for keys of none of them."""
    marks = {
        "raw": r"xlstm\.blocks\.",
        "v2": r"\.rowwise_from_",
        "v1": r"\.layer\.(learnable_skip|mlstm_cell)",
        "own": r"^blocks\.\d+\.(layer\.scans|layer\.qkv)\.|^stages\.\d+\.entry\.",
    }
    for layout, mark in marks.items():
        if any(re.search(mark, key) for key in state):
            return layout
    raise ValueError(
        f"not the weights of a ViL: none of the {len(state)} keys is one of its blocks', e.g. {next(iter(state), '')!r}"
    )


def to_own(state: Mapping[str, Tensor], *, direction: str = "bi-alternating", layout: str | None = None) -> State:
    """Returns the same weights under our names; `own` layouts lose the prefix of a segmentor or classifier.

    Args:
        state: tensors of one of the layouts.
        direction: the block design, a key of `DIRECTIONS`: it tells which grid convolutions are reversed. Designs with
            several sets of weights in a block are known by them.
        layout: found from the keys unless given.

    Raises:
        ValueError: a key that has no place, or a design whose convolution has no equal here.
    """
    state = _strip_prefix(state)
    layout = layout or layout_of(state)
    if layout == "own":
        return _group_channels(state) if _is_ungrouped(state) else dict(state)
    own: State = {}
    for key, value in state.items():
        if "causal_mask" in key:
            continue
        name, offset = _rename(key, layout)
        own[name] = value + 1 if offset else value
    direction = _direction_of(own, direction)
    return _group_channels({key: _turn(key, value, direction) for key, value in own.items()})


def _is_ungrouped(state: Mapping[str, Tensor]) -> bool:
    """Returns whether weights in our layout have the published order of channels, as earlier versions saved them."""
    return any(key.endswith("q_proj.weight") and value.shape[0] > QKV_BLOCK for key, value in state.items())


def _group_channels(state: Mapping[str, Tensor]) -> State:
    """Brings the inner channels of all blocks from the published order into that of `BlockDiagonalLinear`.

    In each head the four channels of a block of the q, k and v maps are neighbours in the published order; ours puts
    the first channels of all blocks first, then the second ones, and so on.
    """

    def grouped(x: Tensor, axis: int = 0) -> Tensor:
        return x.unflatten(axis, (NUM_HEADS, -1, QKV_BLOCK)).transpose(axis + 1, axis + 2).flatten(axis, axis + 2)

    def of(key: str, x: Tensor) -> Tensor:
        name = key.partition(".layer.")[2].removeprefix("scans.").lstrip("0123456789.")
        if re.fullmatch(r"[qkv]_proj\.weight", name):  # (E / 4, out, in)
            return x.permute(2, 1, 0).contiguous()
        if name.startswith("proj_up."):
            return torch.cat([grouped(half) for half in x.chunk(2)])
        if name == "proj_down.weight":
            return grouped(x, 1)
        if name in ("igate.weight", "fgate.weight"):
            return torch.cat([grouped(part, 1) for part in x.chunk(3, 1)], 1)
        if re.fullmatch(r"(conv|outnorm)\.(weight|bias)|[qkv]_proj\.bias|skip", name):
            return grouped(x)
        return x

    return {key: of(key, value) for key, value in state.items()}


def _direction_of(own: Mapping[str, Tensor], direction: str) -> str:
    """Returns the block design: from the number of scans in a block if that determines it, else `direction`."""
    scans = 1 + max((int(key.split(".")[4]) for key in own if ".layer.scans." in key), default=0)
    return {2: "bi", 4: "quad"}.get(scans, direction)


def _strip_prefix(state: Mapping[str, Tensor]) -> State:
    """Removes `module.`, `backbone.` and `net.`; of a whole segmentor only the backbone stays."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("backbone.") for key in state):
        state = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    return {key.removeprefix("net."): value for key, value in state.items()}


def _rename(key: str, layout: str) -> tuple[str, bool]:
    """Returns our name of a key, and whether its value is an offset from 1."""
    for theirs, ours in {**_STEM, **_HEADS[layout]}.items():
        if match := re.fullmatch(rf"{re.escape(theirs)}\.(weight|bias|embed)", key):
            return f"{ours}.{match[1]}", ours == "post_norm" and match[1] == "weight"
    if key == "cls_tokens.tokens":
        return "cls_token", False
    if match := re.fullmatch(r"xlstm\.blocks\.(\d+)\.xlstm(_norm)?\.(.+)", key):
        block, rest = int(match[1]), ("norm." if match[2] else "") + match[3]
    elif match := re.fullmatch(r"blocks\.(\d+)\.rowwise_from_(top_left|bot_right)\.(?:layer\.)?(.+)", key):
        block, rest = 2 * int(match[1]) + (match[2] == "bot_right"), match[3]
    elif match := re.fullmatch(r"blocks\.(\d+)\.(?:layer\.)?(.+)", key):
        block, rest = int(match[1]), match[2]
    else:
        raise ValueError(f"the checkpoint's tensor {key!r} has no place in a ViL")
    return _rename_in_block(key, f"blocks.{block}", rest)


def _rename_in_block(key: str, block: str, rest: str) -> tuple[str, bool]:
    if re.fullmatch(r"norm\.(weight|bias)", rest):
        return f"{block}.{rest}", rest == "norm.weight"
    if rest == "layerscale.gamma":
        return f"{block}.{rest}", False
    if re.fullmatch(r"proj_(up|down)\.(weight|bias)", rest):
        return f"{block}.layer.{rest}", False
    part = r"([qkv]_proj|conv1d|conv|mlstm_cell|learnable_skip)(_rev|_du|_ud|)"
    match = re.fullmatch(part + r"(?:\.conv)?((?:\.(?:igate|fgate|outnorm))?(?:\.(?:weight|bias))?)", rest)
    if match is None:
        raise ValueError(f"the checkpoint's tensor {key!r} has no place in a ViL")
    name = {"conv1d": "conv", "mlstm_cell": "", "learnable_skip": "skip"}.get(match[1], match[1])
    path = f"{block}.layer.scans.{_SCANS.index(match[2])}.{name}{match[3]}".replace("..", ".")
    return path, path.endswith("outnorm.weight")


def _turn(key: str, value: Tensor, direction: str) -> Tensor:
    """Turns the kernel of a reversed pass's grid convolution into the image's frame."""
    match = re.fullmatch(r"blocks\.(\d+)\.layer\.scans\.(\d+)\.conv\.weight", key)
    if match is None or value.ndim < 4:
        return value
    design = DIRECTIONS[direction]
    if design.get("shared"):
        raise ValueError(f"{direction!r} with a grid convolution shared by both passes has no equal here")
    index = int(match[1]) if design.get("alternate") else int(match[2])
    reverse = design["orders"][index % len(design["orders"])].endswith("-reversed")
    return value.flip(tuple(range(2, value.ndim))) if reverse else value


def inflate_blocks(state: Mapping[str, Tensor]) -> State:
    """Returns the blocks of a picture's weights, in our layout, for volumes; the rest is left out.

    A grid convolution k x k becomes k x k x k with the picture's in the middle slice and zeros elsewhere, so that a
    volume one voxel deep gives what the picture gives; everything else does not know the number of axes.
    """
    blocks = {key: value for key, value in state.items() if key.startswith("blocks.")}
    for key, value in blocks.items():
        if key.endswith(".conv.weight") and value.ndim == 4:
            half = value.shape[-1] // 2
            blocks[key] = pad(value[:, :, None], (0, 0, 0, 0, half, half))
    return blocks


def infer_options(state: Mapping[str, Tensor], direction: str = "bi-alternating") -> dict[str, Any]:
    """Returns the options of a `VisionLSTM` for weights in our layout; `direction` if the weights do not show it."""
    first = "blocks.0.layer.scans.0."
    if first + "conv.weight" not in state:
        raise ValueError("not the weights of a ViL in this project's layout: blocks.0.layer.scans.0 is missing")
    if lacking := [key for key in (first + "skip", "patch_embed.proj.weight", "pos_embed.embed") if key not in state]:
        raise ValueError(f"these are not all weights of a ViL, {', '.join(lacking)} missing")
    conv, patch, embed = state[first + "conv.weight"], state["patch_embed.proj.weight"], state["pos_embed.embed"]
    dim, causal = patch.shape[0], conv.ndim == 3
    options: dict[str, Any] = dict(
        dim=dim,
        depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        patch_size=tuple(patch.shape[2:]),
        in_channels=patch.shape[1],
        grid=tuple(embed.shape[1:-1]),
        direction=_direction_of(state, direction),
        inner_dim=state[first + "skip"].shape[0],
        conv="causal" if causal else "grid",
        conv_kernel=conv.shape[-1],
        bias="blocks.0.layer.proj_up.bias" in state,
        norm_bias="blocks.0.norm.bias" in state,
        post_norm="post_norm.weight" in state,
        head_norm="head_norm.weight" in state,
    )
    if "blocks.0.layerscale.gamma" in state:
        options["layerscale"] = 1.0
    if "head.weight" in state:
        wide = state["head.weight"].shape[1] == 2 * dim
        pooling = "bilateral-concat" if wide else "middle-cls" if "cls_token" in state else "bilateral-average"
        options.update(num_classes=state["head.weight"].shape[0], pooling=pooling)
    return options


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Puts weights in our layout into a `VisionLSTM` or `HierViL`, strictly, and returns the report.

    The position embedding is resized to the model's grid. What belongs to a head that the model does not have is
    dropped, and named in the report; anything else that is missing, left over or of another shape is refused, and
    nothing is loaded.

    Raises:
        ValueError: the weights are not those of this model; in what the two designs differ, or, where that does not
            show it, the first tensors.
    """
    target = plain_state(model)
    state = dict(state)
    notes = []
    embed = "pos_embed.embed"
    if embed in state and embed in target and state[embed].shape != target[embed].shape:
        old, new = (tuple(x[embed].shape[1:-1]) for x in (state, target))
        if len(old) == len(new):
            state[embed] = resize_positions(state[embed], new)
            notes.append(f"pos_embed {'x'.join(map(str, old))} -> {'x'.join(map(str, new))}")
    dropped = [key for key in state if key not in target and key.split(".")[0] in _OPTIONAL]
    missing = [key for key in target if key not in state]
    unexpected = [key for key in state if key not in target and key not in dropped]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(target[key].shape)}"
        for key in target
        if key in state and state[key].shape != target[key].shape
    ]
    problems = [
        f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for what, items in (("missing", missing), ("without a place", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        differences = _differences(_design(state), _design(target))
        raise ValueError(f"these are not the weights of this model: {differences or '; '.join(problems)}")
    model.load_state_dict({key: state[key] for key in target}, strict=False)  # adapters stay as they are
    if dropped:
        notes.append(f"dropped {', '.join(sorted({key.split('.')[0] for key in dropped}))} ({len(dropped)} tensors)")
    return ", ".join([f"{len(target)} of {len(state)} tensors", *notes])


def _design(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Describes a design for comparison with another, as far as weights in our layout show it."""
    conv, patch = (state.get(key) for key in ("blocks.0.layer.scans.0.conv.weight", "patch_embed.proj.weight"))
    scans = {key.split(".")[4] for key in state if key.startswith("blocks.0.layer.scans.")}
    passes = f"{len(scans)} set(s) of weights in a block" if scans else "attention blocks"
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    design = dict(blocks=f"{depth} block{'s' * (depth != 1)}")
    if patch is not None:
        sides = " x ".join(map(str, patch.shape[2:]))
        design.update(width=f"width {patch.shape[0]}", patch=f"patches of {sides} and {patch.shape[1]} channels")
    if conv is not None:
        design["conv"] = "a causal convolution (v1)" if conv.ndim == 3 else f"a {conv.ndim - 2}D grid convolution (v2)"
    design.update(
        passes=passes,
        bias="biases" if "blocks.0.layer.proj_up.bias" in state else "no biases",
        layerscale="LayerScale" if "blocks.0.layerscale.gamma" in state else "no LayerScale",
    )
    return design


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    both = [(theirs[key], ours[key]) for key in theirs if key in ours and theirs[key] != ours[key]]
    return ", ".join(f"{their} instead of {our}" for their, our in both)


def verified(state: State, direction: str = "bi-alternating") -> tuple[dict[str, Any], int]:
    """Returns the options for weights in our layout and their number; raises ValueError if they do not fit."""
    options = infer_options(state, direction)
    with torch.device("meta"):
        model = VisionLSTM(**options)
    load_weights(model, {key: value.to("meta") for key, value in state.items()})
    return options, sum(parameter.numel() for parameter in model.parameters())
