"""Numbers that are not finite: found before they reach the weights, traced to a module, never passed over silently."""

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
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.tensor import DTensor

from vil_dense.files import save_json
from vil_dense.mm.engine.failures import RunFault, last_checkpoint
from vil_dense.mm.engine.hooks.nan_trace import first_not_finite, is_finite

ADVICE = "a lower learning rate, clip_grad or bfloat16 in place of float16 may help"
SKIPPED = "steps_skipped"
"""In MMEngine's message hub, so in checkpoints: how many in a row."""


class Batch(NamedTuple):
    """What a step began with."""

    data: Any
    random: dict[str, Any]


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Every training step: loss and gradients are looked at before the optimizer uses them.

    A step with numbers that are not finite changes nothing. It is repeated once under hooks to find the module where
    they arise, `faults/step_N.json` in the work folder gets the files of the batch, and all processes decide alike: the
    step is left out with a warning, or the run ends. No checkpoint with such weights is written.

    With dynamic loss scaling an overflow of the scaled gradient is no fault while the scale is above 1: the scaler
    leaves the step out and halves the scale, and a warning says so.

    Args:
        max_skipped: steps that may be left out in a row.

    Raises:
        RunFault: one more is not finite, or weights that are to be saved are not.
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
        self.model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.backward, self.step = self.wrapper.backward, self.wrapper.step
        self.wrapper.backward = self._backward
        # With the mark by which schedulers know that steps are counted.
        self.wrapper.step = update_wrapper(partial(self._step), self.step)
        self.kept: list[Tensor] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batches.append(Batch(data_batch, random_states()))
        if self.max_skipped and not self.losses:
            # A step that is left out must not leave its statistics in the norms.
            self.kept = [buffer.detach().clone() for buffer in self.model.buffers()]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        for name, value in checkpoint["state_dict"].items():
            if not is_finite(value):
                saved = last_checkpoint(runner.work_dir)
                raise RunFault(
                    f"{name} is not finite, so no checkpoint was written; the last good one: {saved}; {ADVICE}"
                )

    def _backward(self, loss: Tensor, **kwargs: Any) -> None:
        self.losses.append(loss.detach())
        self.backward(loss, **kwargs)

    def _step(self, **kwargs: Any) -> None:
        """In place of the optimizer wrapper's `step`, once for the batches of an update."""
        bad_loss, bad_gradient = self._look()
        if bad_loss or bad_gradient:
            scale, dynamic = loss_scale(self.wrapper)
            if bad_loss or not dynamic or scale <= 1:
                self._fault("loss" if bad_loss else "gradient")
            else:
                self._warn(f"the gradient overflowed at the loss scale {scale:g}: left out, and the scale is halved")
                self.step(**kwargs)
        else:
            self._count(0)
            self.step(**kwargs)
        self.batches.clear()
        self.losses.clear()

    def _count(self, skipped: int) -> None:
        self.skipped = skipped
        self.runner.message_hub.update_info(SKIPPED, skipped)

    def _look(self) -> tuple[bool, bool]:
        """Is the loss, is the gradient of any process not finite?"""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        # A process's part of a small sharded weight may be empty, which has no largest value.
        parts = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
        parts = [part for part in parts if part.numel()]
        # The largest absolute value: unlike a sum of squares it overflows only where a gradient does.
        norm = torch.nn.utils.get_total_norm(parts, math.inf) if parts else torch.zeros(())
        losses = torch.stack([loss.float() for loss in self.losses])
        flags = torch.stack([~torch.isfinite(losses).all(), ~torch.isfinite(norm).to(losses.device)]).float()
        all_reduce(flags, "max")
        bad_loss, bad_gradient = flags.tolist()
        return bool(bad_loss), bool(bad_gradient)

    def _fault(self, what: str) -> None:
        reports = all_gather_object(self._report(what))
        reports = [report for report in reports if report["first"]] or reports
        path = Path(self.runner.work_dir) / "faults" / f"step_{self.runner.iter + 1}.json"
        if is_main_process():
            save_json(path, reports)
        self._count(self.skipped + 1)
        report = reports[0]
        first = f"first in {report['first']}" if report["first"] else "but was finite when the step was repeated"
        words = f"the {what} is {report[what]}, {first}; files of the batch: {path}"
        if self.skipped > self.max_skipped:
            row = f" {self.skipped} times in a row" if self.max_skipped else ""
            saved = last_checkpoint(self.runner.work_dir)
            raise RunFault(f"step {self.runner.iter + 1}:{row} {words}; the last good checkpoint: {saved}; {ADVICE}")
        self._warn(f"{words}; the step is left out, {self.skipped} in a row of at most {self.max_skipped}")
        with torch.no_grad():
            for buffer, kept in zip(self.model.buffers(), self.kept, strict=True):
                buffer.copy_(kept)

    def _report(self, what: str) -> dict[str, Any]:
        """Of this process: step, losses, origin (empty where only others' numbers are not finite), files."""
        losses = torch.stack(self.losses).tolist()
        now = random_states()
        # All batches of the update, in every process: norms over several processes must meet.
        firsts = [first_not_finite(self.model, lambda batch=batch: self._again(batch)) for batch in self.batches]
        set_random_states(now)
        index = next((index for index, first in enumerate(firsts) if first), -1)
        return dict(
            step=self.runner.iter + 1,
            process=get_rank(),
            loss=str(losses[index]),
            gradient="not finite" if what == "gradient" else "not looked at",
            first=firsts[index],
            files=files_of(self.batches[index].data),
        )

    def _again(self, batch: Batch) -> Tensor:
        """The loss of a batch once more, with the random numbers that it had, without touching other processes."""
        set_random_states(batch.random)
        with self.wrapper.optim_context(self.model):
            data = self.model.data_preprocessor(batch.data, True)
            loss, _ = self.model.parse_losses(self.model._run_forward(data, mode="loss"))
        return self.wrapper.scale_loss(loss) * loss_scale(self.wrapper)[0]

    def _warn(self, words: str) -> None:
        self.runner.logger.warning(f"numbers: step {self.runner.iter + 1}: {words}")


@HOOKS.register_module()
class LabelledAccuracyHook(Hook):
    """NaN in the log for the training accuracy of a batch without one labelled pixel, which mmseg gives as 100."""

    priority = "HIGHEST"  # before the log and the mean over processes

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        perfect = [name for name, value in (outputs or {}).items() if name.endswith("acc_seg") and value > 99.99]
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if perfect and not any_labelled(data_batch["data_samples"], model.decode_head.ignore_index):
            outputs.update({name: torch.full_like(outputs[name], math.nan) for name in perfect})


def any_labelled(samples: Iterable[Any], ignore_index: int) -> bool:
    return any(bool((sample.gt_sem_seg.data != ignore_index).any()) for sample in samples)


def files_of(data: Any) -> list[str]:
    """Paths of the pictures, or names of the cases, of a collated batch; empty where it does not say."""
    if "data_samples" in data:
        return [str(sample.metainfo.get("img_path", "unknown")) for sample in data["data_samples"]]
    return [str(name) for key in ("img_path", "name") for name in data.get(key, ())]


def loss_scale(wrapper: OptimWrapper) -> tuple[float, bool]:
    """The factor of the loss in mixed precision, 1 without it; and whether an overflow lowers it."""
    scaler = getattr(wrapper, "loss_scaler", None)
    return (1.0, False) if scaler is None else (scaler.get_scale(), wrapper._scale_update_param is None)


def random_states() -> dict[str, Any]:
    """Of Python, numpy and torch, for `set_random_states`."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state(), cuda=cuda)


def set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
