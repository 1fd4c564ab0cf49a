"""Writes the scores of each case beside the log of a run."""

from pathlib import Path
from typing import ClassVar

from mmengine.dist import master_only
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vil_dense.medical.metrics import save_scores
from vil_dense.mm.engine.hooks.reports import RunReportHook
from vil_dense.mm.engine.resolve_volumes import scores_held_out
from vil_dense.mm.volumes.metric import VolumeMetric


@HOOKS.register_module()
class VolumeReportHook(RunReportHook):
    """Reports a segmentor of volumes, with a table per case and class (CSV, JSON) after each validation and test."""

    metric = "Dice"
    floats = ".4f"
    charts: ClassVar[dict[str, dict[str, str]]] = {"Loss": {"training": "loss"}, "Validation": {"Dice": "Dice"}}

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        self._save_scores(runner, "val")

    def result(self, runner: Runner, metrics: dict[str, float], split: str) -> str:
        words = super().result(runner, metrics, split)
        own = split == "val" and metrics and not scores_held_out(runner.cfg)
        return f"{words} (of the cases that were trained on, not of new ones)" if own else words

    def save_table(self, runner: Runner, split: str) -> None:
        if split == "test":  # those of a validation are there already
            self._save_scores(runner, split)
        runner.logger.info(f"per case: {_folder(runner, split)}")

    def _save_scores(self, runner: Runner, split: str) -> None:
        """Writes the scores of the volume metrics of an evaluator."""
        for metric in getattr(runner, f"{split}_evaluator").metrics:
            if isinstance(metric, VolumeMetric) and metric.scores:
                save_scores(metric.scores, _folder(runner, split), tolerance_mm=metric.tolerance_mm)


def _folder(runner: Runner, split: str) -> Path:
    """Returns the folder for the tables of the last validation, or of a test."""
    return Path(runner.work_dir) / ("validation" if split == "val" else "")
