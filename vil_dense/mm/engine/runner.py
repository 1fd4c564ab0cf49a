"""Runs every config: whichever launcher of MMEngine builds the runner, checks and settings are the same."""

import copy
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed, is_main_process
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from vil_dense.files import check_folders
from vil_dense.layers.lora import merge_lora
from vil_dense.mm.datasets.checks.labels import check_labels
from vil_dense.mm.datasets.class_folders import check_loaders
from vil_dense.mm.datasets.unlabelled import check_pictures
from vil_dense.mm.engine.checks.components import check_components, check_norms
from vil_dense.mm.engine.checks.numbers import check_numbers
from vil_dense.mm.engine.distributed import start_processes
from vil_dense.mm.engine.earlier_run import move_earlier_run
from vil_dense.mm.engine.failures import explain_failures
from vil_dense.mm.engine.fine_tuning import FrozenBackboneHook, set_trained_parts
from vil_dense.mm.engine.hooks.hook_states import HookStateHook
from vil_dense.mm.engine.optim.resumed_schedules import Schedules
from vil_dense.mm.engine.quiet_runner import QuietRunner, warnings_before_errors
from vil_dense.mm.engine.resolve.config import describe_start, name_outputs, resolve_config
from vil_dense.mm.engine.run_start import find_start
from vil_dense.mm.engine.training_memory import describe_training_memory, describe_training_time
from vil_dense.mm.engine.work_dir_lock import lock_work_dir
from vil_dense.mm.models.backbone import FeatureMaps
from vil_dense.mm.models.classifier import ImageClassifier
from vil_dense.mm.utils.safe_load import check_backbone, load_exactly, load_safely, safe_files, weights_of
from vil_dense.mm.utils.unwrap import unwrap


@RUNNERS.register_module()
class ViLRunner(QuietRunner):
    """Trains as MMEngine's `Runner` does, after it has resolved what the config leaves open and checked the run.

    `runner_type="ViLRunner"` in a config selects it. `from_cfg` starts the processes, finds the checkpoint to resume
    from, resolves norm, plan, workers, warm-up and precision (`resolve_config`), and locks the work folder. `train`
    checks weights, labels and memory first. Files are read without running code in them and are written atomically.
    """

    checkpoint: dict | None = None
    """The contents of `load_from`, read once, until the model has them."""
    prepared = False

    @classmethod
    def from_cfg(cls, cfg: Config) -> "ViLRunner":
        """Builds a runner from a config, which is not changed.

        Raises:
            OSError: the work folder cannot be written to, or another process trains in it.
            ValueError: the config lacks a part, or does not fit the machine or the checkpoint.
        """
        cfg = copy.deepcopy(cfg)
        if missing := [key for key in ("train_dataloader", "train_cfg", "optim_wrapper") if not cfg.get(key)]:
            raise ValueError(f"the config has no {missing[0]}, which a training needs")
        launcher, cuda = cfg.get("launcher", "none"), torch.cuda.is_available()
        if launcher != "none" and not is_distributed():
            start_processes(launcher, cfg.get("env_cfg"))
        init_default_scope(cfg.get("default_scope", "mmengine"))
        check_components(cfg)
        check_numbers(cfg)
        check_folders(cfg.work_dir)
        with safe_files():
            checkpoint, notes = find_start(cfg)
            weights = weights_of(checkpoint) if checkpoint else None
            if cfg.get("cascade") and isinstance(cfg.get("plan"), dict):
                cfg.plan.pop("first_stage", None)  # in the config of a run, which may have held other cases out
            lines = [*notes, *resolve_config(cfg, get_world_size(), cuda, weights)]
            lines.append(describe_start(cfg, cfg.load_from))
            if cfg.get("cascade") and cfg.load_from and not cfg.resume:
                raise ValueError(
                    f"load_from={cfg.load_from} would replace the first stage of the cascade by one that may have "
                    "seen the held-out cases: use model.init_cfg=dict(type='Pretrained', checkpoint=...) instead"
                )
            if is_main_process():
                lock_work_dir(cfg.work_dir)
            runner = super().from_cfg(cfg)
        runner.register_hook(HookStateHook())
        if cfg.get("freeze_backbone"):
            runner.register_hook(FrozenBackboneHook())
        runner.checkpoint = checkpoint
        for line in lines:
            runner.logger.info(line)
        return runner

    def prepare(self) -> None:
        """Checks weights, data and memory before the first step, while mistakes are still the user's to correct.

        Raises:
            ValueError: weights of another model, or labels that do not fit it.
            FileNotFoundError: no data.
        """
        if self.prepared:
            return
        with warnings_before_errors(), safe_files():
            if self.checkpoint is not None:
                check = load_exactly if self._resume else check_backbone
                check(self.model, self._start_weights(self.checkpoint), self._load_from)
            for network in self.model.modules():
                strict = isinstance(network, (FeatureMaps, ImageClassifier))
                if strict or getattr(network, "loads_strictly", False):  # a segmentor of volumes, which needs MONAI
                    network.init_weights()
            check_norms(unwrap(self.model))
            check_loaders(self.train_loop.dataloader, self.val_loop.dataloader if self.val_loop else None)
            check_labels(self, self.cfg.get("label_check", {}), ("train", "val"))
            if line := check_pictures(self.train_loop.dataloader, self.cfg.get("label_check", {})):
                self.logger.info(line)
            if is_main_process():
                for line in (*describe_training_memory(self), describe_training_time(self)):
                    if line:
                        self.logger.info(line)
        self.prepared = True

    def train(self) -> nn.Module:
        """Trains as MMEngine's runner does, after `prepare`, and leaves the process as it was before.

        What an earlier run left in the work folder is moved to a folder in it, unless this run resumes.

        Raises:
            RunFault: what ended the run from outside, in one sentence.
        """
        self.prepare()
        if is_main_process() and not self._resume and (line := move_earlier_run(self.work_dir, self.log_dir)):
            self.logger.info(line)
        with warnings_before_errors(), safe_files(), explain_failures(self), restored_process():
            return super().train()

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Builds the model; adds LoRA or freezes the backbone if the config says so, before DDP wraps it."""
        built = super().build_model(name_outputs(model) if isinstance(model, dict) else model)
        if line := set_trained_parts(built, self.cfg):
            self.logger.info(line)
        return built

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(wrapper, AmpOptimWrapper):
            # The products that stay in float32 are those of the mLSTM; TF32 holds half-precision inputs exactly.
            torch.set_float32_matmul_precision("high")
        return wrapper

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scales the learning rate by the images of an update, where MMEngine counts those of a step."""
        if auto_scale_lr and auto_scale_lr.get("enable"):
            updates = getattr(optim_wrapper, "_accumulative_counts", 1)
            auto_scale_lr = {**auto_scale_lr, "base_batch_size": auto_scale_lr["base_batch_size"] / updates}
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def resume(self, *args: Any, **options: Any) -> None:
        """Resumes as MMEngine does. If schedule settings changed, the learning rate follows the new settings."""
        schedules = Schedules.of(self)
        super().resume(*args, **options)
        if schedules and (line := schedules.restore(self)):
            self.logger.info(line)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = "cpu",
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict:
        """Loads a checkpoint into the model without running code of the file, and returns its contents on the CPU.

        `map_location` and `revise_keys` are MMEngine's and are not used. Tensors are read to the CPU, and the model
        copies them from there. Checkpoints of wrapped models hold no prefix.
        """
        checkpoint, self.checkpoint = self.checkpoint, None
        if checkpoint is None or filename != self._load_from:
            checkpoint = load_safely(filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = unwrap(self.model)
        load_state_dict(model, self._start_weights(checkpoint), strict, self.logger)
        self._has_loaded = True
        self.logger.info(f"loaded checkpoint {filename}")
        return checkpoint

    def _start_weights(self, checkpoint: dict) -> dict[str, torch.Tensor]:
        """Returns the weights of a checkpoint; the adapters of another run's LoRA become part of its weights."""
        return weights_of(checkpoint) if self._resume else merge_lora(weights_of(checkpoint))


@contextmanager
def restored_process() -> Iterator[None]:
    """Puts back the handler of SIGTERM and the float32 precision, which a run may change."""
    main = threading.current_thread() is threading.main_thread()
    handler: Any = signal.getsignal(signal.SIGTERM)
    precision = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)
        torch.set_float32_matmul_precision(precision)
