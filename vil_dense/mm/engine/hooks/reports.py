"""Reports a run: lines at its end, curves, panels, a table of the classes, overlays."""

import json
from pathlib import Path
from typing import ClassVar

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from vil_dense.backbones import compile_blocks
from vil_dense.files import save_csv, save_png
from vil_dense.mm.datasets.label_ids import save_label
from vil_dense.mm.datasets.output_names import output_name
from vil_dense.mm.evaluation.protocols import describe
from vil_dense.mm.visualization import draw


def label_of(sample: SegDataSample, key: str) -> np.ndarray:
    """Returns a label map (H, W) int64 of an mmseg sample, `pred_sem_seg` or `gt_sem_seg`."""
    label = getattr(sample, key).data
    return label.reshape(label.shape[-2:]).long().cpu().numpy()  # one logit gives floats


class RunReportHook(Hook):
    """Logs result, checkpoint and folders after training and testing, a line each, and draws the curves of a run.

    A subclass names its metric and its table per class. A metric of the evaluator keeps the rows of that, `per_class`.
    """

    priority = "LOWEST"
    metric = ""
    """The metric whose curve is drawn."""
    shown: tuple[str, ...] = ()
    """Metrics of the result; if empty, all but times."""
    floats = ".2f"
    columns: tuple[str, ...] = ()
    folders: ClassVar[dict[str, str]] = dict(val="", test="")
    """Path of the table of each split, below the work folder."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = metrics or {}

    @master_only
    def after_train(self, runner: Runner) -> None:
        pictures = Path(runner.work_dir) / "pictures"
        # A resumed run goes on with the curves of the ones before it.
        logs = runner.work_dir if runner.cfg.get("resume") else runner.log_dir
        curves = read_scalars(logs, "loss"), read_scalars(logs, self.metric)
        draw.save_curves(pictures / "curves.png", *curves, self.metric)
        runner.logger.info(f"result: {self.result(runner, self.metrics, 'val')}")
        if self.metrics:
            self.save_table(runner, "val")
        runner.logger.info(f"checkpoint: {runner.message_hub.get_info('last_ckpt')}")
        runner.logger.info(f"pictures: {pictures}")

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        runner.logger.info(f"result: {self.result(runner, metrics or {}, 'test')}")
        self.save_table(runner, "test")

    def result(self, runner: Runner, metrics: dict[str, float], split: str) -> str:
        """Returns the metrics of an evaluation on one line."""
        names = self.shown or [name for name in metrics if "time" not in name]
        named = ", ".join(f"{name} {metrics[name]:{self.floats}}" for name in names if name in metrics)
        return named or "none, this run did not validate"

    def save_table(self, runner: Runner, split: str) -> None:
        """Writes the table of the first metric that keeps its numbers per class."""
        evaluator = getattr(runner, f"{split}_evaluator")
        for rows in filter(None, (getattr(metric, "per_class", None) for metric in evaluator.metrics)):
            path = Path(runner.work_dir) / self.folders[split] / "per_class.csv"
            save_csv(path, [dict(zip(self.columns, row, strict=True)) for row in rows], self.floats)
            runner.logger.info(f"per class: {path}")
            return


@HOOKS.register_module()
class ReportHook(RunReportHook):
    """Reports a segmentor of pictures, with its test protocol, and shows some validation pictures.

    Args:
        panels: number of validation pictures, evenly spread, shown as picture | truth | prediction.
    """

    metric = "mIoU"
    shown = ("mIoU", "mAcc", "aAcc")
    columns = ("class", "IoU", "accuracy", "pixels")
    folders: ClassVar[dict[str, str]] = dict(val="pictures", test="")

    def __init__(self, panels: int = 4) -> None:
        super().__init__()
        self.panels = panels
        self.drawn: list[np.ndarray] = []

    def before_val_epoch(self, runner: Runner) -> None:
        self.drawn = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        batches, dataset = len(runner.val_dataloader), runner.val_dataloader.dataset
        if outputs and batch_idx in np.linspace(0, batches - 1, min(self.panels, batches), dtype=int):
            image = mmcv.imread(outputs[0].img_path, channel_order="rgb")
            truth, prediction = label_of(outputs[0], "gt_sem_seg"), label_of(outputs[0], "pred_sem_seg")
            self.drawn.append(draw.panel(image, truth, prediction, dataset.metainfo["palette"]))

    @master_only
    def after_train(self, runner: Runner) -> None:
        if self.drawn:
            save_png(Path(runner.work_dir) / "pictures/panels.png", draw.stack(self.drawn))
        super().after_train(runner)

    def result(self, runner: Runner, metrics: dict[str, float], split: str) -> str:
        words = super().result(runner, metrics, split)
        return f"{words} ({describe(runner.cfg, split)})" if metrics else words


@HOOKS.register_module()
class ClassReportHook(RunReportHook):
    """Reports a classifier."""

    metric = "top1"
    shown = ("top1", "top5")
    columns = ("class", "top1", "pictures")


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the blocks before training, in place and for all sizes; see `backbones.compile_blocks`.

    The first steps take minutes, so it pays in long runs. Where nothing can be compiled, a line of the log says why and
    the blocks run as they are. MMEngine's own `compile=True` compiles the whole training step.
    """

    def before_train(self, runner: Runner) -> None:
        try:
            compile_blocks(runner.model)
            runner.logger.info("blocks: compiled in the first steps, which take minutes")
        except RuntimeError as error:
            runner.logger.warning(f"blocks: not compiled, {error}")


@HOOKS.register_module()
class OverlayHook(Hook):
    """Writes every tested picture with its prediction over it, or the prediction alone in the ids of the files.

    Args:
        folder: gets a PNG for each picture, named by its path below the data set's folder.
        labels: write label pictures and no overlays.
    """

    def __init__(self, folder: str, labels: bool = False) -> None:
        self.folder, self.labels = Path(folder), labels

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        dataset = runner.test_dataloader.dataset
        for sample in outputs or []:
            label = label_of(sample, "pred_sem_seg")
            file = self.folder / f"{output_name(sample.img_path, dataset)}.png"
            if self.labels:
                save_label(file, label, dataset.metainfo)
            else:
                image = mmcv.imread(sample.img_path, channel_order="rgb")
                save_png(file, draw.overlay(image, label, dataset.metainfo["palette"]))


def read_scalars(folder: str, name: str) -> dict[int, float]:
    """Reads a scalar of all runs logged below `folder`, by step; later runs replace earlier ones.

    The last line of a run that was killed may be cut off, and is left out.

    Raises:
        ValueError: another line is no JSON; names the file.
    """
    curve: dict[int, float] = {}
    for file in sorted(Path(folder).rglob("vis_data/scalars.json")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if name in row:
                    curve[row["step"]] = row[name]
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise ValueError(f"{file}, line {number}, is no line of a run's log: {error}") from None
    return dict(sorted(curve.items()))
