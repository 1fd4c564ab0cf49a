"""Estimates memory and time of a step of any network before it runs, by steps of smaller inputs.

Activations are proportional to the voxels of a batch, and time is nearly so beside a constant for each step, as every
layer of the networks of this package is linear in them. Plans, trainings and predictions all use these two functions.
"""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vil_dense.cost.memory import LiveMemory
from vil_dense.layers.fused import FusedViLLayer

Run = Callable[[nn.Module, int, tuple[int, ...]], Tensor]
"""Types a function of model, batch size and input size, which returns the loss, or the output of a prediction."""
COUNTED, TIMED = 32**3, 64**3
"""Most positions (px, voxels) of the inputs that are counted, and of those that are timed: a ViL block takes nearly as
long for 128 tokens as for 512, so that the time of small inputs says little."""
LONGEST = 15.0
"""Time of a step, s, up to which one input of the whole size is timed, too: larger arrays fit no cache."""
SHORTEST = 16
"""Length to which an axis is halved at most, as networks have total strides of up to 16."""


class Seconds(NamedTuple):
    """Stores the time of a step as `constant + positions * each`, s; CPU time of all threads, or time on a GPU."""

    constant: float
    each: float

    def of(self, batch: int, size: Sequence[int]) -> float:
        """Returns the seconds of a step of `batch` inputs of `size`."""
        return self.constant + self.each * batch * prod(size)


def probe_size(size: Sequence[int], most: int) -> tuple[int, ...]:
    """Returns `size` with its longest axis halved until it has at most `most` positions, as far as `SHORTEST`."""
    probe = [*size]
    while prod(probe) > most and max(probe) > SHORTEST:
        longest = probe.index(max(probe))
        probe[longest] = max(-(-probe[longest] // (2 * SHORTEST)) * SHORTEST, SHORTEST)
    return tuple(probe)


def activation_bytes(
    model: nn.Module,
    run: Run,
    batch: int,
    size: Sequence[int],
    *,
    backward: bool,
    autocast: torch.dtype | None = None,
    most: int = COUNTED,
) -> float:
    """Returns the bytes that a process holds for the activations of a step, with its input, without gradients.

    A smaller step is counted on tensors without storage, on any device; the model does not change.

    Args:
        backward: whether `run` returns a loss whose gradient is computed.
        autocast: dtype of mixed precision.
        most: positions of the step that is counted.
    """
    probe = probe_size(size, most)
    few = max(1, min(batch, most // prod(probe)))
    ratio = batch * prod(size) / (few * prod(probe))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        empty: dict[int, Tensor] = {
            id(x): nn.Parameter(torch.empty_like(x, device="cpu"), x.requires_grad) for x in model.parameters()
        }
        empty |= {id(x): torch.empty_like(x, device="cpu") for x in model.buffers()}
        for x in empty.values():
            x.grad = torch.empty_like(x) if x.requires_grad else None  # gradients are not counted as activations
    # Not `to_empty`: it fails where modules share a weight, as DynUNet's do.
    model = copy.deepcopy(model, empty).train(backward)
    for module in model.modules():
        if isinstance(module, FusedViLLayer):
            module.compiled = False  # torch compiles nothing while tensors are counted
    mixed = torch.autocast("cpu", autocast) if autocast else nullcontext()
    with fake, LiveMemory(ratio) as memory, mixed, torch.set_grad_enabled(backward):
        out = run(model, few, probe)
        if backward:
            out.backward()
    return memory.resident * ratio


def input_channels(model: nn.Module) -> int:
    """Returns the channels of a network's input, those of its first convolution.

    Raises:
        ValueError: the network has no convolution.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            return module.in_channels
    raise ValueError(f"the channels of the input of {type(model).__name__} are not known: it has no convolution")


def stand_in_loss(logits: Sequence[Tensor]) -> Tensor:
    """Returns a loss that takes the memory and time of Dice and cross entropy at each scale, and reads no label.

    MONAI's losses read values of tensors, which tensors without storage do not have.
    """
    losses = []
    for each in logits:
        probability, truth = each.softmax(1), torch.zeros_like(each)
        dice = (probability * truth).sum() / (probability.sum() + truth.sum())
        losses.append(F.cross_entropy(each, truth) - dice)
    return torch.stack(losses).sum()


def step_seconds(model: nn.Module, run: Run, batch: int, size: Sequence[int], *, backward: bool) -> Seconds:
    """Times steps of a copy of the model on its device, without the optimizer, at two sizes.

    The second is the whole `size` if that takes at most `LONGEST`. The random numbers of the process do not change.
    """
    device = next(model.parameters()).device
    large = probe_size(size, TIMED)
    few = max(1, min(batch, TIMED // prod(large)))
    small = probe_size(size, prod(large) // 8)
    model = copy.deepcopy(model).train(backward)

    def timed(batch: int, size: tuple[int, ...]) -> tuple[int, float]:
        return batch * prod(size), _timed(model, run, batch, size, backward, device)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.set_grad_enabled(backward):
        second = timed(few, large)
        found = _line(timed(1, small), second)
        if prod(size) > second[0] and found.of(1, size) <= LONGEST:
            found = _line(second, timed(1, tuple(size)))
    return found


def _line(first: tuple[int, float], second: tuple[int, float]) -> Seconds:
    """Returns the time that two steps have, each given by its positions and its time; it never falls."""
    positions, seconds = second[0] - first[0], second[1]
    if positions <= 0:
        return Seconds(0.0, seconds / second[0])
    each = max(seconds - first[1], 0.0) / positions
    return Seconds(seconds - each * second[0], each)


def _timed(
    model: nn.Module, run: Run, batch: int, size: tuple[int, ...], backward: bool, device: torch.device
) -> float:
    """Returns the seconds of the faster of two steps after another one."""
    found = []
    for _ in range(3):
        start = _clock(device)
        out = run(model, batch, size)
        if backward:
            out.backward()
        found.append(_clock(device) - start)
    return min(found[1:])


def _clock(device: torch.device) -> float:
    """Returns CPU time of all threads, which other programs on the machine hardly change, or the time of a GPU."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
