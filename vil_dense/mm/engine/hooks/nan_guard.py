"""Detects numbers that are not finite before they reach the weights, and traces them to a module."""

import math
import random
from collections.abc import Iterable
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.tensor import DTensor

from vil_dense.files import save_json
from vil_dense.mm.engine.failures import RunFault, resume_point
from vil_dense.mm.engine.hooks.nan_trace import first_not_finite, is_finite
from vil_dense.mm.utils.heads import last_head
from vil_dense.mm.utils.unwrap import unwrap

ADVICE = "a lower learning rate, clip_grad or bfloat16 in place of float16 may help"
SKIPPED = "steps_skipped"
"""Key in MMEngine's message hub, and so in checkpoints: number of steps skipped in a row."""


class Batch(NamedTuple):
    """Stores the inputs of a step: data and random states."""

    data: Any
    random: dict[str, Any]


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Checks loss and gradients of every training step before the optimizer uses them.

    A step with numbers that are not finite changes no weight. It is repeated once under hooks to find the module where
    they arise, and the files of the batch are written to `faults/step_N.json` in the work folder. All processes decide
    alike: the step is skipped with a warning, or the run ends. No checkpoint with weights that are not finite is
    written.

    With dynamic loss scaling an overflow of the scaled gradient is normal while the scale is above 1: the scaler skips
    the step and halves the scale, and a warning is logged.

    Args:
        max_skipped: number of steps in a row that may be skipped.

    Raises:
        RunFault: more steps in a row are not finite, or weights to be saved are not finite.
    """

    priority = "HIGH"  # after the seeding of a step

    def __init__(self, max_skipped: int = 0) -> None:
        self.max_skipped = max_skipped
        self.skipped = 0
        self.batches: list[Batch] = []
        self.losses: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        self.runner, self.wrapper = runner, runner.optim_wrapper
        self.skipped = runner.message_hub.runtime_info.get(SKIPPED, 0)
        self.model = unwrap(runner.model)
        self.backward, self.step = self.wrapper.backward, self.wrapper.step
        self.wrapper.backward = self._backward
        # With the attribute by which schedulers know that steps are counted.
        self.wrapper.step = update_wrapper(partial(self._step), self.step)
        self.saved_buffers: list[Tensor] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batches.append(Batch(data_batch, random_states()))
        if self.max_skipped and not self.losses:
            # The norms must not keep the statistics of a skipped step.
            self.saved_buffers = [buffer.detach().clone() for buffer in self.model.buffers()]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        for name, value in checkpoint["state_dict"].items():
            if not is_finite(value):
                saved = resume_point(runner.work_dir)
                raise RunFault(
                    f"{name} is not finite, so no checkpoint was written; the last good one: {saved}; {ADVICE}"
                )

    def _backward(self, loss: Tensor, **kwargs: Any) -> None:
        self.losses.append(loss.detach())
        self.backward(loss, **kwargs)

    def _step(self, **kwargs: Any) -> None:
        """Replaces the optimizer wrapper's `step`; runs once for the batches of an update."""
        bad_loss, bad_gradient = self._check()
        if bad_loss or bad_gradient:
            scale, dynamic = loss_scale(self.wrapper)
            if bad_loss or not dynamic or scale <= 1:
                self._skip_or_end("loss" if bad_loss else "gradient")
            else:
                self._warn(f"the gradient overflowed at the loss scale {scale:g}: skipped, and the scale is halved")
                self.step(**kwargs)
        else:
            self._count(0)
            self.step(**kwargs)
        self.batches.clear()
        self.losses.clear()

    def _count(self, skipped: int) -> None:
        self.skipped = skipped
        self.runner.message_hub.update_info(SKIPPED, skipped)

    def _check(self) -> tuple[bool, bool]:
        """Returns whether the loss and whether the gradient of any process is not finite."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        # A process's part of a small sharded weight may be empty and then has no largest value.
        parts = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
        parts = [part for part in parts if part.numel()]
        # The largest absolute value: unlike a sum of squares it overflows only where a gradient does.
        norm = torch.nn.utils.get_total_norm(parts, math.inf) if parts else torch.zeros(())
        losses = torch.stack([loss.float() for loss in self.losses])
        flags = torch.stack([~torch.isfinite(losses).all(), ~torch.isfinite(norm).to(losses.device)]).float()
        all_reduce(flags, "max")
        bad_loss, bad_gradient = flags.tolist()
        return bool(bad_loss), bool(bad_gradient)

    def _skip_or_end(self, what: str) -> None:
        reports = all_gather_object(self._report(what))
        reports = [report for report in reports if report["first"]] or reports
        path = Path(self.runner.work_dir) / "faults" / f"step_{self.runner.iter + 1}.json"
        if is_main_process():
            save_json(path, reports)
        self._count(self.skipped + 1)
        report = reports[0]
        first = f"first in {report['first']}" if report["first"] else "but was finite when the step was repeated"
        message = f"the {what} is {report[what]}, {first}; files of the batch: {path}"
        if self.skipped > self.max_skipped:
            repeated = f" {self.skipped} times in a row" if self.max_skipped else ""
            saved = resume_point(self.runner.work_dir)
            raise RunFault(
                f"step {self.runner.iter + 1}:{repeated} {message}; the last good checkpoint: {saved}; {ADVICE}"
            )
        self._warn(f"{message}; the step is skipped, {self.skipped} in a row of at most {self.max_skipped}")
        with torch.no_grad():
            for buffer, saved_buffer in zip(self.model.buffers(), self.saved_buffers, strict=True):
                buffer.copy_(saved_buffer)

    def _report(self, what: str) -> dict[str, Any]:
        """Returns step, loss, origin (empty if only other ranks overflowed) and files of this process."""
        losses = torch.stack(self.losses).tolist()
        now = random_states()
        # Every process repeats all batches of the update, as norms over several processes need all of them.
        firsts = [first_not_finite(self.model, partial(self._repeat, batch)) for batch in self.batches]
        set_random_states(now)
        index = next((index for index, first in enumerate(firsts) if first), -1)
        return dict(
            step=self.runner.iter + 1,
            process=get_rank(),
            loss=str(losses[index]),
            gradient="not finite" if what == "gradient" else "not checked",
            first=firsts[index],
            files=files_of(self.batches[index].data),
        )

    def _repeat(self, batch: Batch) -> Tensor:
        """Returns the loss of a batch, computed again with the same random numbers, in this process alone."""
        set_random_states(batch.random)
        with self.wrapper.optim_context(self.model):
            data = self.model.data_preprocessor(batch.data, True)
            loss, _ = self.model.parse_losses(self.model._run_forward(data, mode="loss"))
        return self.wrapper.scale_loss(loss) * loss_scale(self.wrapper)[0]

    def _warn(self, message: str) -> None:
        self.runner.logger.warning(f"numbers: step {self.runner.iter + 1}: {message}")


@HOOKS.register_module()
class LabelledAccuracyHook(Hook):
    """Logs NaN as the training accuracy of a batch without labelled pixels, for which mmseg gives 100."""

    priority = "HIGHEST"  # before the log and the mean over processes

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        if outputs is None:
            return
        perfect = [name for name, value in outputs.items() if name.endswith("acc_seg") and value > 99.99]
        if not perfect:  # or a model without decode heads
            return
        ignored = last_head(unwrap(runner.model).decode_head).ignore_index
        if not any_labelled(data_batch["data_samples"], ignored):
            outputs.update({name: torch.full_like(outputs[name], math.nan) for name in perfect})


def any_labelled(samples: Iterable[Any], ignore_index: int) -> bool:
    """Returns whether a sample has a labelled pixel."""
    return any(bool((sample.gt_sem_seg.data != ignore_index).any()) for sample in samples)


def files_of(data: Any) -> list[str]:
    """Returns the paths of the pictures, or the names of the cases, of a collated batch; empty if it has none."""
    if "data_samples" in data:
        return [str(sample.metainfo.get("img_path", "unknown")) for sample in data["data_samples"]]
    return [str(name) for key in ("img_path", "name") for name in data.get(key, ())]


def loss_scale(wrapper: OptimWrapper) -> tuple[float, bool]:
    """Returns the factor of the loss in mixed precision, 1 without it; and whether an overflow reduces it."""
    scaler = getattr(wrapper, "loss_scaler", None)
    return (1.0, False) if scaler is None else (scaler.get_scale(), wrapper._scale_update_param is None)


def random_states() -> dict[str, Any]:
    """Returns the random states of Python, numpy and torch, for `set_random_states`."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state(), cuda=cuda)


def set_random_states(states: dict[str, Any]) -> None:
    """Restores the states that `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
