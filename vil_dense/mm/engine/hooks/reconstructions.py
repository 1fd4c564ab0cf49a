"""Reports a masked pretraining: its loss, and panels of what the network makes of masked inputs."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from markupsafe import Markup
from mmengine.dataset import default_collate
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vil_dense.files import save_png
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.engine.hooks.reports import RunReportHook, read_scalars
from vil_dense.mm.utils.unwrap import unwrap
from vil_dense.mm.visualization import draw
from vil_dense.report import gallery, jpeg_uri
from vil_dense.report.page import note

CAPTIONS = ("input", "masked input", "reconstruction")
"""Names the pictures in each row of `MaskedImageModel.panels`."""


SIDE_PX = 192
"""Least long side of a picture in the panels; a small crop or slice is enlarged."""


@HOOKS.register_module()
class ReconstructionHook(RunReportHook):
    """Reports a pretraining by reconstruction, and draws input | masked | reconstructed for a few samples.

    The samples, their crops and their masks are the same in every panel, so that the steps can be compared. The last
    panel is also a section of the run's page.

    Args:
        samples: number of samples, evenly spread over the training data.
        interval: steps between two panels, `pictures/reconstructions_STEP.png`; the last one is always drawn.
    """

    metric = "lr"
    charts: ClassVar[dict[str, dict[str, str]]] = {
        "Loss": {"training": "loss"},
        "Top-1 of the probe, %": {"nearest neighbours": "knn_top1", "linear": "linear_top1"},
    }

    def __init__(self, samples: int = 4, interval: int = 1000) -> None:
        super().__init__()
        if samples < 1 or interval < 1:
            raise ValueError(f"samples and interval are whole numbers from 1 on, got {samples} and {interval}")
        self.samples, self.interval = samples, interval
        self.drawn: list[list[np.ndarray]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        if is_main_process() and self.every_n_train_iters(runner, self.interval):
            self.draw(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        if is_main_process():
            path = self.draw(runner, runner.iter)
            runner.logger.info(f"reconstructions (input, masked, reconstructed): {path}")
        super().after_train(runner)

    def draw(self, runner: Runner, step: int) -> Path:
        """Draws the panels after `step` steps, and returns the path of the PNG."""
        model, dataset = unwrap(runner.model), runner.train_dataloader.dataset
        indices = np.unique(np.linspace(0, len(dataset) - 1, min(self.samples, len(dataset)), dtype=int))
        batch = default_collate([dataset[SampleKey(int(index), runner.seed)] for index in indices])
        training = model.training
        model.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(runner.seed)
            self.drawn = [[draw.enlarge(picture, SIDE_PX) for picture in row] for row in model.panels(batch)]
        model.train(training)
        path = Path(runner.work_dir) / f"pictures/reconstructions_{step}.png"
        save_png(path, draw.stack([draw.side_by_side(row) for row in self.drawn]))
        return path

    def parts(self, runner: Runner, split: str) -> tuple[list[Markup], dict[str, list[Markup]]]:
        rule = f"Training samples after {runner.iter} steps; pictures/ has the same samples after earlier steps."
        uris = [[jpeg_uri(picture) for picture in row] for row in self.drawn]
        rows = [gallery(dict(zip(CAPTIONS, row, strict=True))) for row in uris]
        return [], {"Reconstructions": [note(rule), *rows] if rows else []}

    def result(self, runner: Runner, metrics: dict[str, float], split: str) -> str:
        """Returns the last logged loss of the masked places, and the first one if there are two."""
        logs = runner.work_dir if runner.cfg.get("resume") else runner.log_dir
        losses = read_scalars(logs, "loss")
        if not losses:
            return "none, the run logged no loss"
        first, last = min(losses), max(losses)
        begin = f", {losses[first]:.4f} at step {first}" if first < last else ""
        return f"loss of the masked places {losses[last]:.4f} at step {last}{begin}"

    def best(self, curve: dict[int, float]) -> str:
        return ""
