"""Writes the scores of each case beside the log of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup
from mmengine.dist import master_only
from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vil_dense.medical.metrics import save_scores
from vil_dense.medical.pages.overlays import draw_comparison
from vil_dense.medical.pages.score_sections import score_lead, score_sections
from vil_dense.medical.pages.write import OVERLAY_PX
from vil_dense.medical.statistics import summarise_with_intervals
from vil_dense.mm.engine.hooks.report_page import report_folder
from vil_dense.mm.engine.hooks.reports import RunReportHook
from vil_dense.mm.engine.resolve.volumes import scores_held_out
from vil_dense.mm.utils.unwrap import unwrap
from vil_dense.mm.volumes.metric import VolumeMetric
from vil_dense.report import jpeg_uri
from vil_dense.report.charts import COLOURS

STRUCTURE = "Dice_"
"""Begins the logged names of the Dice of single structures."""


@HOOKS.register_module()
class VolumeReportHook(RunReportHook):
    """Reports a segmentor of volumes, with a table per case and class (CSV, JSON) after each validation and test."""

    metric = "Dice"
    floats = ".4f"
    charts: ClassVar[dict[str, dict[str, str]]] = {"Loss": {"training": "loss"}, "Validation": {"Dice": "Dice"}}

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, str] = {}
        self.val_interval = 0
        self.may_stop_early = False

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.val_interval = runner.val_interval
        self.may_stop_early = any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks)

    def before_val_epoch(self, runner: Runner) -> None:
        self.pictures = {}

    def before_test_epoch(self, runner: Runner) -> None:
        self.pictures = {}

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        # The page is that of the last validation, which early stopping alone knows.
        if self.may_stop_early or runner.iter + self.val_interval > runner.max_iters:
            self._draw(runner, data_batch, outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        self._draw(runner, data_batch, outputs)

    def _draw(self, runner: Runner, data_batch: dict | None, outputs: list | None) -> None:
        """Draws the cases of a batch and stores them as small data URIs."""
        plan = unwrap(runner.model).plan
        batch: Mapping[str, Sequence[Any]] = data_batch or {}
        for case, image, affine in zip(outputs or [], batch.get("image", ()), batch.get("affine", ()), strict=True):
            overlay = draw_comparison(case["name"], image[0], case["prediction"], case["truth"], affine, plan)
            self.pictures[case["name"]] = jpeg_uri(overlay, OVERLAY_PX)

    def scalars(self) -> dict[str, dict[str, str]]:
        """Returns the logged scalars of the charts, with the Dice of each structure."""
        names = [name for name in self.metrics if name.startswith(STRUCTURE)]
        groups = [names[start : start + COLOURS] for start in range(0, len(names), COLOURS)]
        count = len(groups)
        titles = [f"Dice of the structures{f', {n} of {count}' if count > 1 else ''}" for n in range(1, count + 1)]
        curves = [{name.removeprefix(STRUCTURE): name for name in group} for group in groups]
        return {**super().scalars(), **dict(zip(titles, curves, strict=True))}

    def parts(self, runner: Runner, split: str) -> tuple[list[Markup], dict[str, list[Markup]]]:
        for metric in _volume_metrics(runner, split):
            summary = summarise_with_intervals(metric.scores, metric.scoring, runner.cfg.get("patient"))
            lead = score_lead(metric.scores, summary)
            return lead[1:], score_sections(metric.scores, summary, self.pictures, {})
        return [], {}

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
        for metric in _volume_metrics(runner, split):
            save_scores(metric.scores, _folder(runner, split), metric.scoring)


def _volume_metrics(runner: Runner, split: str) -> list[VolumeMetric]:
    """Returns the volume metrics of an evaluator that have scores; none where nothing is evaluated, as for fold=all."""
    metrics = getattr(getattr(getattr(runner, f"{split}_loop"), "evaluator", None), "metrics", [])
    return [metric for metric in metrics if isinstance(metric, VolumeMetric) and metric.scores]


def _folder(runner: Runner, split: str) -> Path:
    """Returns the folder for the tables of the last validation, or of a test."""
    return report_folder(runner, split) / ("validation" if split == "val" else "")
