"""Writes checkpoints that are complete whenever the process is stopped.

MMEngine overwrites a file in place, deletes old checkpoints before the new one exists, and skips the validation that
was due at the saved step when it resumes. `AtomicBackend` and `SafeCheckpointHook` avoid this; `run_start.newest` finds
the checkpoint to resume from.
"""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from vil_dense.files import sweep, write_whole
from vil_dense.mm.engine.checkpoint_names import POINTER, check_template, name_within_epoch, saved_steps
from vil_dense.mm.engine.loops.epoch_loop import SAMPLES_READ, EpochLoop
from vil_dense.mm.utils.safe_load import weights_of
from vil_dense.mm.utils.unwrap import unwrap


@register_backend("atomic")
class AtomicBackend(LocalBackend):
    """Writes MMEngine's files on local disks to a temporary name first and then renames them."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_whole(Path(filepath), lambda part: part.write_bytes(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        write_whole(Path(filepath), lambda part: part.write_text(obj, encoding))


def _trains(runner: Runner) -> bool:
    return not isinstance(runner.optim_wrapper, (Mapping, NoneType))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Saves as MMEngine's `CheckpointHook` does, but deletes old checkpoints only after the new one is complete.

    A run that resumes at a step whose validation was interrupted, or at its end, validates first. So metrics, the best
    checkpoint and the report are those of an unbroken run.

    No checkpoint holds accumulated gradients. One that is due between two updates is therefore saved after the next
    update and named after that step; in an epoch loop other than `EpochLoop`, after the next epoch that ends with an
    update.
    """

    save_pending = False
    """Whether a checkpoint is due and not saved yet."""

    _default_greater_keys = (*CheckpointHook._default_greater_keys, "dice", "nsd", "mBIoU")
    _default_less_keys = (*CheckpointHook._default_less_keys, "hd95", "cross_entropy")

    def __init__(self, *args: Any, backend_args: dict | None = None, **options: Any) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend="atomic"), **options)
        check_template(self.filename_tmpl)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses to evaluate with weights that do not fit: MMEngine would leave out, or keep as initialised, the rest.

        Raises:
            ValueError: a test or validation begins, and names of the weights differ from those of the model. In
                training that is allowed.
        """
        if _trains(runner) or not any(isinstance(loop, BaseLoop) for loop in (runner._test_loop, runner._val_loop)):
            return
        model = {*unwrap(runner.model).state_dict()}
        weights = {name.removeprefix("module.") for name in weights_of(checkpoint)}  # as MMEngine does
        if model != weights:
            named = ", ".join(sorted(model ^ weights)[:2])
            raise ValueError(
                f"the checkpoint has other weights than the model of the config: {len(model - weights)} are missing, "
                f"{len(weights - model)} are left ({named}, ...); test with the config in the work folder of the run"
            )

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if is_main_process():
            sweep(Path(self.out_dir))
        self.last_ckpt = runner.message_hub.runtime_info.get("last_ckpt")
        if runner.iter and runner.val_loop is not None and self._owes_validation(runner):
            runner.val_loop.run()

    def _owes_validation(self, runner: Runner) -> bool:
        loop = runner.train_loop
        steps = isinstance(loop, IterBasedTrainLoop)
        done, last = (loop.iter, loop.max_iters) if steps else (loop.epoch, loop.max_epochs)
        due = done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
        return due and (done == last or runner.message_hub.runtime_info.get("last_validation") != done)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.save_pending and runner.optim_wrapper.should_update():
            if not self.by_epoch:
                self._save_checkpoint(runner)
            elif isinstance(runner.train_loop, EpochLoop):
                self.save_within_epoch(runner, batch_idx + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        if self.by_epoch and self.save_pending and runner.optim_wrapper.should_update():
            self._save_checkpoint(runner)

    def after_train(self, runner: Runner) -> None:
        step = runner.epoch if self.by_epoch else runner.iter
        ended_early = self.save_last and step and Path(self.last_ckpt or "").name != Path(self._path(step)).name
        if (
            self.save_pending or ended_early
        ):  # as by MMEngine's EarlyStoppingHook, after which no step and no update follows
            self._save_step(runner, step, meta=dict(epoch=runner.epoch, iter=runner.iter))
        super().after_train(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not _trains(runner):
            return
        super().after_val_epoch(runner, metrics or {})
        # Not before: a new best score saves the checkpoint of this step again, in which hooks that come later, such as
        # EarlyStoppingHook, have not counted this validation. A run that resumes from it validates once more.
        loop = runner.train_loop
        done = loop.iter if isinstance(loop, IterBasedTrainLoop) else loop.epoch
        runner.message_hub.update_info("last_validation", done)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if runner.optim_wrapper.should_update():
            self._save_step(runner, step, meta)
        else:
            self.save_pending = True
            runner.logger.info("checkpoint: saved after the next update, since gradients are being accumulated")

    def _save_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            steps = [*(saved for saved in self.keep_ckpt_ids if saved != step), step]
            outdated = steps[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.clear()  # the step may be saved again, after a new best score
            self.keep_ckpt_ids.extend(steps)  # a queue of limited length, which drops the outdated
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        saved = saved_steps(Path(self.out_dir), self.filename_tmpl.format(step))
        within = [path for path, (_, steps_after) in saved.items() if steps_after]
        self._save(runner, self._path(step), meta)
        self._remove([*map(self._path, outdated), *map(str, within)])

    def save_within_epoch(self, runner: Runner, step: int) -> None:
        """Saves a checkpoint after `step` steps of an epoch; it is deleted after the next one of a complete epoch."""
        read = step * runner.train_dataloader.batch_size * runner.world_size
        runner.message_hub.update_info(SAMPLES_READ, read)
        path = self.file_backend.join_path(self.out_dir, name_within_epoch(self.filename_tmpl, runner.epoch, step))
        self._save(runner, path, meta=dict(epoch=runner.epoch, iter=runner.iter + 1))
        runner.message_hub.update_info(SAMPLES_READ, 0)  # the next checkpoint may be of a complete epoch

    def _save(self, runner: Runner, path: str, meta: dict) -> None:
        self.last_ckpt = path
        runner.message_hub.update_info("last_ckpt", path)
        runner.save_checkpoint(
            self.out_dir,
            Path(path).name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._write_pointer(runner.work_dir)
        self.save_pending = False

    @master_only
    def _write_pointer(self, work_dir: str) -> None:
        write_whole(Path(work_dir) / POINTER, lambda part: part.write_text(self.last_ckpt))

    @master_only
    def _remove(self, paths: list[str]) -> None:
        for path in filter(self.file_backend.isfile, paths):
            self.file_backend.remove(path)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best or not self._has_scores(runner, metrics):
            return
        # The base class must not know the old ones, or it deletes them before the new one exists.
        before = self._best()
        self._set_best(dict.fromkeys(before))
        super()._save_best_checkpoint(runner, metrics)
        after = self._best()
        self._set_best({key: after.get(key) or path for key, path in before.items()})
        for key, path in before.items():
            # The best checkpoint of another run, from which this run started, is not deleted.
            own = path and Path(path).absolute().parent == Path(self.out_dir).absolute()
            if own and after.get(key) not in (None, path):
                self._remove([path])

    def _has_scores(self, runner: Runner, metrics: dict[str, float]) -> bool:
        """Returns whether a validation gives the metrics of `save_best`; else the run goes on with a warning."""
        wanted = [key for key in self.key_indicators if key != "auto"]
        missing = [key for key in wanted if key not in metrics]
        if missing:
            runner.logger.warning(
                f"best checkpoint: not saved, the validation gives {', '.join(metrics) or 'no metric'} and no "
                f"{', '.join(missing)}; set default_hooks.checkpoint.save_best"
            )
        return not missing

    def describe_best(self, runner: Runner) -> list[str]:
        """Returns a line on the best checkpoint for each metric of `save_best`."""
        if not self.save_best:
            return []
        lines, info, several = [], runner.message_hub.runtime_info, len(self.key_indicators) > 1
        for key, path in self._best().items():
            score = info.get(f"best_score_{key}" if several else "best_score")
            if path and score is not None:
                lines.append(f"best checkpoint: {path} ({key or self.key_indicators[0]} {score:.4g})")
        return lines

    def _best(self) -> dict[str | None, str | None]:
        """Returns the path of the best checkpoint for each metric; the key is None if there is only one metric."""
        several = len(self.key_indicators) > 1
        return dict(self.best_ckpt_path_dict) if several else {None: self.best_ckpt_path}

    def _set_best(self, paths: dict[str | None, str | None]) -> None:
        if len(self.key_indicators) > 1:
            self.best_ckpt_path_dict.update(paths)
        else:
            self.best_ckpt_path = paths[None]
