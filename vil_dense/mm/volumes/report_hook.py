"""Writes the scores of each case beside the log of a run."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vil_dense.medical.metrics import save_scores
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.visualization.draw import save_curves
from vil_dense.mm.volumes.metric import VolumeMetric


@HOOKS.register_module()
class VolumeReportHook(Hook):
    """Writes a table per case and class (CSV, JSON) after each validation and test; at the end result and curves."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = metrics or {}
        self.save(runner.val_evaluator, self.folder(runner))

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.save(runner.test_evaluator, Path(runner.work_dir))
        runner.logger.info(f"per case: {runner.work_dir}")

    def save(self, evaluator: Evaluator, folder: Path) -> None:
        """Writes the scores of the volume metrics of an evaluator."""
        for metric in evaluator.metrics:
            if isinstance(metric, VolumeMetric) and metric.scores:
                save_scores(metric.scores, folder, tolerance_mm=metric.tolerance_mm)

    def folder(self, runner: Runner) -> Path:
        """Returns the folder for the tables of the last validation."""
        return Path(runner.work_dir) / "validation"

    @master_only
    def after_train(self, runner: Runner) -> None:
        curves = Path(runner.work_dir) / "pictures/curves.png"
        logs = runner.work_dir if runner.cfg.get("resume") else runner.log_dir
        save_curves(curves, read_scalars(logs, "loss"), read_scalars(logs, "Dice"), "Dice")
        named = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items() if "time" not in name)
        runner.logger.info(f"result: {named or 'none, this run did not validate'}")
        runner.logger.info(f"checkpoint: {runner.message_hub.get_info('last_ckpt')}")
        runner.logger.info(f"per case: {self.folder(runner)}")
        runner.logger.info(f"pictures: {curves.parent}")
