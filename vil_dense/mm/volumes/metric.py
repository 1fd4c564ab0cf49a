"""Scores the masks of validation and test on the grids of their files, as `tools/volumes/evaluate.py` does."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.metrics import TOLERANCE_MM, VALUES, Classes, Score, Scoring, score_case, summarise


@METRICS.register_module()
class VolumeMetric(BaseMetric):
    """Computes Dice, HD95 (mm) and NSD of each class and case by the rule of `medical.metrics`.

    `Dice`, `HD95` and `NSD` are means over the classes' means; `Dice_<class>` that of one.

    Args:
        plan: mapping or path, see `medical.data.plan_schema`.
        classes: name -> label, or the labels of a region; those of the plan unless given. Voxels of the plan's
            `ignore_label` are left out.
        tolerance_mm: of the NSD.
        nsd: one of `medical.metrics.NSD_DEFINITIONS`.

    Attributes:
        scores: after an evaluation, a `medical.metrics.Score` for each case and class.
    """

    default_prefix = ""

    def __init__(
        self,
        plan: Mapping[str, Any] | str,
        classes: Classes | None = None,
        tolerance_mm: float = TOLERANCE_MM,
        nsd: str = "voxel",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        options = dict(classes=classes, tolerance_mm=tolerance_mm, nsd=nsd)
        self.scoring = Scoring.of(read_plan(plan), options)
        self.scores: list[Score] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Scores the cases that `VolumeSegmentor.segment` returns."""
        for sample in data_samples:
            case = sample["name"], sample["prediction"], sample["truth"]
            # One entry for each case: MMEngine cuts the list to the number of cases.
            self.results.append(score_case(*case, spacing_mm=sample["spacing_mm"], **self.scoring._asdict()))

    def compute_metrics(self, results: list[list[Score]]) -> dict[str, float]:
        self.scores = [score for case in results for score in case]
        summary = summarise(self.scores)
        named = {name: summary["mean"][value] for name, value in zip(("Dice", "HD95", "NSD"), VALUES, strict=True)}
        named |= {f"Dice_{name}": row["dice"] for name, row in summary["structures"].items()}
        return {name: math.nan if value is None else value for name, value in named.items()}
