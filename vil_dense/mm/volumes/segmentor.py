"""Trains a volume network on patches and segments whole volumes as `tools/volumes/predict.py` does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

from vil_dense.backbones.checkpoint import to_own
from vil_dense.layers.lora import plain_state
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.inference.ensemble import Configuration, predict_mean
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.geometry import voxel_size
from vil_dense.medical.losses import BoundaryLoss, loss_of
from vil_dense.medical.networks.nets import build_network, logits_of
from vil_dense.medical.networks.sequence import load_picture_blocks, sequence_share
from vil_dense.mm.models.pretrained import naming
from vil_dense.mm.utils.safe_load import check_finite, load_exactly, read_weights
from vil_dense.state_files import read_state

OUTPUTS = "decoder.heads."
"""Prefix of the output layers, which belong to the classes or channels of one training."""


@MODELS.register_module()
class VolumeSegmentor(BaseModel):
    """Holds a network of `medical.NETWORKS`, its loss, and the windows in which it sees whole volumes.

    Args:
        plan: mapping or path, see `medical.data.plan_schema`.
        network: `type`, a key of `medical.NETWORKS`, and its options; channels, classes, spacing and patch come from
            the plan.
        overlap: of neighbouring windows, in [0, 1).
        window_batch: windows at a time.
        dice_weight: of the Dice loss beside cross entropy, which has 1.
        boundary_weight: of `medical.losses.BoundaryLoss`, of the finest logits alone; 0 for none.
        first_stage: in the second stage of a cascade, the number of `networks` of the first stage and their options
            (`plan`, `network`, ...). They are not trained, are part of the checkpoints, and give the mask that
            `network` sees in whole volumes; patches come with theirs.
        first_stage_weights: checkpoint of each of them, loaded by `init_weights`.
        picture_weights: file of a picture's ViL, whose blocks start the sequence blocks of its width.
        init_cfg: `dict(type="Pretrained", checkpoint=FILE)` loads the network of a `MaskedVolumeModel` or of another
            training, strictly and without running code from the file; the output layers stay new.

    Raises:
        ValueError: options do not fit, the plan has no classes, or one of it and `first_stage` is of a cascade alone.
    """

    loads_strictly = True
    """The runner calls `init_weights` before the first step, where its errors are the user's to correct."""
    _is_init: bool  # set by `BaseModule`

    def __init__(
        self,
        plan: Mapping[str, Any] | str,
        network: dict[str, Any],
        overlap: float = 0.5,
        window_batch: int = 1,
        dice_weight: float = 1.0,
        boundary_weight: float = 0.0,
        first_stage: Mapping[str, Any] | None = None,
        first_stage_weights: Sequence[str] = (),
        picture_weights: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.plan = read_plan(plan)
        if len(self.plan["labels"]) < 2:
            raise ValueError("the plan has no classes, as one of volumes without labels: make a plan of labelled data")
        self.network = build_network(self.plan, **network)
        self.windows = SlidingWindow.of(self.plan, overlap, window_batch)
        self.loss = DeepSupervisionLoss(loss_of(self.plan, dice_weight))
        self.boundary_weight = boundary_weight
        self.boundary_loss = BoundaryLoss(self.plan) if boundary_weight else None
        if picture_weights:
            with naming(picture_weights):
                report = load_picture_blocks(self.network, to_own(read_state(picture_weights)))
            print_log(f"start: {report}, {picture_weights}", "current")
        print_log(describe_network(self.network, self.plan["patch_vox"]), "current")
        self.first_stage_weights = first_stage_weights
        options = dict(first_stage or dict(networks=0))
        if bool(options["networks"]) != ("first_stage" in self.plan):
            raise ValueError(
                "the second stage of a cascade has first_stage in its plan and in its model: cascade=DIR writes both"
            )
        firsts = (VolumeSegmentor(**options) for _ in range(options.pop("networks")))
        self.first_stage = nn.ModuleList(firsts).requires_grad_(False)

    def forward(
        self,
        image: Tensor | Sequence[np.ndarray],
        label: Tensor | Sequence[np.ndarray] | None = None,
        name: Sequence[str] = (),
        affine: Sequence[np.ndarray] = (),
        mode: str = "tensor",
    ) -> Any:
        """Runs one of MMEngine's three modes.

        Args:
            image: patches (B, C, I, J, K) on the plan's grid, with the structures of a first stage as last
                channels; for `predict` arrays (C, I, J, K) on their files' grids.
            label: patches (B, 1, I, J, K), see `LabelMap.encode`; for `predict` arrays (I, J, K), None without.
            name, affine: for `predict`, of each case; (4, 4), voxels of the file to mm.
            mode: `loss`, `predict` or `tensor`.

        Returns:
            `loss`: a dict with the loss, or with those of regions and boundaries. `predict`: a dict for each case, see
            `segment`. `tensor`: logits.
        """
        if mode == "predict":
            truth = [None] * len(image) if label is None else label
            return [self.segment(*case) for case in zip(name, image, affine, truth, strict=True)]
        if not isinstance(image, Tensor):
            raise ValueError(f"mode={mode!r} needs patches, a tensor")
        if mode == "tensor":
            return self.logits(image)[0]
        if not isinstance(label, Tensor):
            raise ValueError("mode='loss' needs labels, a tensor")
        logits = self.logits(image)
        loss = self.loss(logits, label.float())
        if self.boundary_loss is None:
            return dict(loss=loss)
        return dict(loss_regions=loss, loss_boundary=self.boundary_weight * self.boundary_loss(logits[0], label))

    def logits(self, image: Tensor) -> list[Tensor]:
        """Returns the logits of patches (B, C, I, J, K), in training of several scales, the finest first."""
        return logits_of(self.network(image))

    def init_weights(self) -> None:
        """Loads the checkpoints of `first_stage_weights` and `init_cfg`; other parameters are left as constructed."""
        if self._is_init:
            return
        if len(self.first_stage) != len(self.first_stage_weights):
            raise ValueError(
                f"each of the {len(self.first_stage)} networks of the first stage needs a file of first_stage_weights, "
                f"got {list(self.first_stage_weights)}"
            )
        for first, path in zip(self.first_stage, self.first_stage_weights, strict=True):
            load_exactly(first, read_weights(path), path)
        self._is_init = True
        if self.init_cfg is None:
            return
        if not isinstance(self.init_cfg, dict) or set(self.init_cfg) != {"type", "checkpoint"}:
            raise ValueError(
                f"VolumeSegmentor takes init_cfg=dict(type='Pretrained', checkpoint=FILE), got {self.init_cfg}"
            )
        print_log(f"start: {load_network(self.network, str(self.init_cfg['checkpoint']))}", "current")

    def segment(self, name: str, image: np.ndarray, affine: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
        """Segments a case on the grid of its file.

        Returns:
            `name`, `prediction` and `truth` (I, J, K), integers, and `spacing_mm` of their voxels.
        """
        device = next(self.parameters()).device
        prediction = predict_mean([Configuration([self], self.plan, self.windows)], image, affine, device=device)
        return dict(name=name, prediction=prediction, truth=truth, spacing_mm=voxel_size(affine))


def describe_network(network: torch.nn.Module, patch_vox: Sequence[int]) -> str:
    """Returns a line: parameters, the fraction in sequence blocks, tokens of a patch at each of their scales."""
    numbers = sequence_share(network)
    count_tokens = getattr(network, "tokens", None)
    tokens = count_tokens(patch_vox) if count_tokens else {}
    scales = ((count, scale[1:]) for scale, count in tokens.items())
    at = ", ".join(f"{n} at 1/{f'({s})' if 'x' in s else s} resolution" for n, s in scales) or "none"
    return (
        f"network: {type(network).__name__}, {numbers['total']:,} parameters, {numbers['share']:.1%} in sequence "
        f"blocks; tokens of a patch of {'x'.join(map(str, patch_vox))}: {at}"
    )


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
