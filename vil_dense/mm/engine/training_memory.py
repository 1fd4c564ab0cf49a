"""Estimates the memory and the time of a training before it runs, and suggests settings that need less."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vil_dense.backbones import HierViL, VisionLSTM
from vil_dense.cost.memory import GIB, free_memory
from vil_dense.cost.step_cost import COUNTED, activation_bytes, input_channels, stand_in_loss, step_seconds
from vil_dense.mm.datasets.transforms.imagenet import RandomResizedCrop
from vil_dense.mm.datasets.wrappers import parts
from vil_dense.mm.models.classifier import ImageClassifier
from vil_dense.mm.models.mask_head import MaskClassificationHead
from vil_dense.mm.models.masked_pretraining import MaskedImageModel
from vil_dense.mm.utils.unwrap import unwrap

STATES = dict(AdamW=2, Adam=2, SGD=1)
"""Tensors of the size of a parameter that an optimizer stores for it."""
COUNTED_PX = 8 * 128**2
"""Most px of the step that is counted for pictures."""


class Step(NamedTuple):
    """Stores the settings that determine the memory of a step."""

    batch: int
    size: tuple[int, ...]  # (H, W) px or (I, J, K) voxels
    with_cp: bool  # blocks are recomputed in the backward pass

    def __str__(self) -> str:
        recomputed = ", blocks recomputed" if self.with_cp else ""
        return f"{self.batch} x {' x '.join(map(str, self.size))}{recomputed}"


class Training(NamedTuple):
    """Stores the resident bytes of a process: `activations` are those of a step with its batch, the rest stays."""

    weights: int
    states: int
    gradients: int
    activations: int
    buckets: int = 0  # a second copy of the gradients, in which DDP sums over processes

    @property
    def total(self) -> int:
        """Returns the resident bytes of the process."""
        return sum(self)

    def __str__(self) -> str:
        sizes = {name: size for name, size in self._asdict().items() if size or name != "buckets"}
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in sizes.items())
        return f"about {self.total / GIB:.2f} GiB ({parts})"


def estimate_training(runner: Runner, step: Step | None = None) -> Training | None:
    """Estimates the memory of a training step by counting a step on tensors without storage.

    Args:
        runner: the run.
        step: the step to estimate, by default that of the run.

    Returns:
        The estimate; None for a sharded model, or one that is not of this package.
    """
    model = unwrap(runner.model)
    step = step or own_step(runner)
    if step is None or any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return None
    optimizer = (
        runner.optim_wrapper["optimizer"] if isinstance(runner.optim_wrapper, dict) else runner.optim_wrapper.optimizer
    )
    kind = optimizer["type"] if isinstance(optimizer, dict) else type(optimizer).__name__
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return Training(
        weights=sum(x.nbytes for x in (*model.parameters(), *model.buffers())),
        states=STATES.get(kind, 2) * trained,
        gradients=trained,
        activations=_activations(model, step, _autocast(runner)),
        buckets=trained if _copies_gradients(runner.model) else 0,
    )


def own_step(runner: Runner) -> Step | None:
    """Returns the step as the run is configured; None for a model that is not of this package."""
    model, loader = unwrap(runner.model), runner.train_dataloader
    if isinstance(model, EncoderDecoder):
        size = getattr(model.data_preprocessor, "size", None)
    elif isinstance(model, (ImageClassifier, MaskedImageModel)):
        steps = next(parts(loader.dataset)).pipeline.transforms
        crops = [part for part in steps if isinstance(part, RandomResizedCrop)]
        size = (crops[-1].size,) * 2 if crops else None
    else:
        plan = getattr(model, "plan", None)
        size = plan["patch_vox"] if plan else None
    with_cp = any(network.with_cp for network in _networks(model))
    return Step(loader.batch_size, tuple(size), with_cp) if size else None


def describe_training_memory(runner: Runner) -> list[str]:
    """Returns lines for the log: the estimate, and a warning if less is free; or why the estimate failed."""
    try:
        expected = estimate_training(runner)
    except Exception as error:  # a failed estimate must not stop the training
        return [f"memory: not estimated, {type(error).__name__}: {' '.join(str(error).split())[:200]}"]
    if expected is None:
        return []
    lines = [f"memory: a step of {own_step(runner)} takes {expected}"]
    free = free_memory(get_device())
    if free is not None and expected.total > free:
        lines.append(f"warning: {free / GIB:.2f} GiB are free; {describe_smaller_batch(runner)}")
    return lines


def describe_training_time(runner: Runner) -> str:
    """Returns a line for the log: the estimated time of all steps on volumes; empty for pictures, which are not timed.

    Some steps of a small patch are run on a copy of the model, see `step_seconds`; validation comes on top.
    """
    model, step, steps = unwrap(runner.model), own_step(runner), runner.max_iters
    if step is None or len(step.size) != 3 or get_world_size() > 1:
        return ""

    def run(model: nn.Module, batch: int, size: tuple[int, ...]) -> Tensor:
        return _loss(model, step._replace(batch=batch, size=size))

    device = next(model.parameters()).device.type
    try:
        with torch.autocast(device, _autocast(runner), enabled=_autocast(runner) is not None):
            seconds = step_seconds(model, run, step.batch, step.size, backward=True).of(step.batch, step.size)
    except Exception as error:  # a failed estimate must not stop the training
        return f"time: not estimated, {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    kind = "" if device == "cuda" else "CPU "
    return f"time: about {seconds:.2g} {kind}s a step, {seconds * steps / 3600:.2g} {kind}h for {steps} steps"


def describe_smaller_batch(runner: Runner) -> str:
    """Lists settings that need less memory, each with its estimate, the most effective first."""
    found = [(estimate_training(runner, step), words) for words, step in smaller_steps(runner)]
    ranked = sorted((expected.total, words) for expected, words in found if expected is not None)
    options = "; ".join(f"{words}: {total / GIB:.2f} GiB" for total, words in ranked)
    return f"smaller steps: {options}" if options else "a smaller batch or crop needs less"


def smaller_steps(runner: Runner) -> list[tuple[str, Step]]:
    """Returns settings that need less memory, each with the resulting step."""
    step, model = own_step(runner), unwrap(runner.model)
    if step is None:
        return []
    found = []
    if _networks(model) and not step.with_cp:
        key = "model.with_cp" if isinstance(model, ImageClassifier) else "model.backbone.with_cp"
        found.append((f"{key}=True, which takes longer", step._replace(with_cp=True)))
    if step.batch > 1:
        half = step.batch // 2
        words = (
            f"train_dataloader.batch_size={half} (optim_wrapper.accumulative_counts=2 keeps the pictures of an update)"
        )
        found.append((words, step._replace(batch=half)))
    grain = 32 if len(step.size) == 2 else 8
    size = tuple(max(grain, 3 * length // 4 // grain * grain) for length in step.size)
    if size != step.size:
        what = "crops" if len(size) == 2 else "a planned patch_vox"
        found.append((f"{what} of {' x '.join(map(str, size))}", step._replace(size=size)))
    return found


def _activations(model: nn.Module, step: Step, autocast: torch.dtype | None) -> int:
    """Returns the resident bytes of the batch and activations of a step."""

    def run(model: nn.Module, batch: int, size: tuple[int, ...]) -> Tensor:
        for network in _networks(model):
            network.with_cp = step.with_cp
        return _loss(revert_sync_batchnorm(model), step._replace(batch=batch, size=size))

    most = COUNTED_PX if len(step.size) == 2 else COUNTED
    return int(activation_bytes(model, run, step.batch, step.size, backward=True, autocast=autocast, most=most))


def _loss(model: nn.Module, step: Step) -> Tensor:
    """Returns the loss of a batch of that size, without those parts of mmseg and MONAI that read label values."""
    inputs = torch.zeros(step.batch, input_channels(model), *step.size, device=next(model.parameters()).device)
    if isinstance(model, ImageClassifier):
        return model(inputs, torch.zeros(step.batch, model.num_classes), mode="loss")["loss"]
    if isinstance(model, MaskedImageModel):
        return model(inputs, mode="loss")["loss"]
    if not isinstance(model, EncoderDecoder):
        volumes = cast(Any, model)  # a `VolumeSegmentor` or `MaskedVolumeModel`, which this module does not import
        return stand_in_loss(volumes.logits(inputs))
    label = torch.zeros(step.batch, *step.size, dtype=torch.long)
    features = model.extract_feat(inputs)
    if isinstance(model.decode_head, MaskClassificationHead):
        # The points of its losses are few beside the masks of all layers.
        return torch.stack([x.square().sum() for pair in model.decode_head.decode(features) for x in pair]).sum()
    logits = _logits(model.decode_head, features)
    if model.with_auxiliary_head:
        extra = model.auxiliary_head
        heads = extra if isinstance(extra, nn.ModuleList) else [extra]
        logits += [out for head in heads for out in _logits(head, features)]
    losses = [
        F.cross_entropy(resize(out, step.size, mode="bilinear", align_corners=model.align_corners), label)
        for out in logits
    ]
    return torch.stack(losses).sum()


def _logits(head: nn.Module, features: Sequence[Tensor]) -> list[Tensor]:
    """Returns the logits of a head; of a cascade those of each head, which receives the logits of the one before."""
    logits: list[Tensor] = []
    for part in head if isinstance(head, nn.ModuleList) else [head]:
        out = part(features, *logits[-1:])
        logits.append(out if isinstance(out, Tensor) else out[0])  # mmseg's EncHead also returns its second loss
    return logits


def _copies_gradients(model: nn.Module) -> bool:
    return isinstance(model, nn.parallel.DistributedDataParallel) and not model.gradient_as_bucket_view


def _networks(model: nn.Module) -> list[VisionLSTM | HierViL]:
    return [module for module in model.modules() if isinstance(module, (VisionLSTM, HierViL))]


def _autocast(runner: Runner) -> torch.dtype | None:
    """Returns the dtype of autocast in the run; None without mixed precision."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, dict):
        kind, dtype = wrapper.get("type"), wrapper.get("dtype")
    else:
        kind, dtype = type(wrapper).__name__, getattr(wrapper, "cast_dtype", None)
    if kind == "CPUAmpOptimWrapper":
        return torch.bfloat16
    if kind != "AmpOptimWrapper":
        return None
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float16
