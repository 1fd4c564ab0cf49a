"""What a run leaves behind: three lines at its end, curves, panels, a table per class, overlays."""

import json
from pathlib import Path

import mmcv
import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from vil_dense.backbones import compile_blocks
from vil_dense.mm.datasets.label_ids import file_ids
from vil_dense.mm.datasets.output_names import output_name
from vil_dense.mm.evaluation.protocols import describe
from vil_dense.mm.visualization import draw

SHOWN = ("mIoU", "mAcc", "aAcc")


def label_of(sample: SegDataSample, key: str) -> np.ndarray:
    """A label map (H, W) of an mmseg sample: `pred_sem_seg` or `gt_sem_seg`."""
    label = getattr(sample, key).data
    return label.reshape(label.shape[-2:]).long().cpu().numpy()  # one logit gives floats


def report_line(metrics: dict[str, float], protocol: str) -> str:
    """The metrics of an evaluation, with its protocol."""
    if not metrics:
        return "none, this run did not validate"
    named = ", ".join(f"{name} {metrics[name]:.2f}" for name in SHOWN if name in metrics)
    return f"{named} ({protocol})"


@HOOKS.register_module()
class ReportHook(Hook):
    """After training or testing: metric, checkpoint and folder of pictures, a line each.

    Args:
        panels: number of validation pictures, evenly spread, shown as picture | truth | prediction.
    """

    priority = "LOWEST"

    def __init__(self, panels: int = 4) -> None:
        self.panels = panels
        self.metrics: dict[str, float] = {}
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

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = metrics or {}

    @master_only
    def after_train(self, runner: Runner) -> None:
        folder = Path(runner.work_dir) / "pictures"
        # A resumed run goes on with the curves of the ones before it.
        logs = runner.work_dir if runner.cfg.get("resume") else runner.log_dir
        draw.save_curves(folder / "curves.png", read_scalars(logs, "loss"), read_scalars(logs, "mIoU"), "mIoU")
        if self.metrics:
            save_per_class(folder / "per_class.csv", runner.val_evaluator.metrics)
        if self.drawn:
            draw.save_png(folder / "panels.png", draw.stack(self.drawn))
        runner.logger.info(f"result: {report_line(self.metrics, describe(runner.cfg, 'val'))}")
        runner.logger.info(f"checkpoint: {runner.message_hub.get_info('last_ckpt')}")
        runner.logger.info(f"pictures: {folder}")

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        table = Path(runner.work_dir) / "per_class.csv"
        save_per_class(table, runner.test_evaluator.metrics)
        runner.logger.info(f"result: {report_line(metrics or {}, describe(runner.cfg, 'test'))}")
        runner.logger.info(f"per class: {table}")


@HOOKS.register_module()
class ClassReportHook(Hook):
    """After training or testing a classifier: accuracy, checkpoint, files, a line each; curves, a table per class."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = metrics or {}

    @master_only
    def after_train(self, runner: Runner) -> None:
        folder = Path(runner.work_dir) / "pictures"
        logs = runner.work_dir if runner.cfg.get("resume") else runner.log_dir
        draw.save_curves(folder / "curves.png", read_scalars(logs, "loss"), read_scalars(logs, "top1"), "top1")
        self._say(runner, self.metrics, runner.val_evaluator.metrics if self.metrics else [])
        runner.logger.info(f"checkpoint: {runner.message_hub.get_info('last_ckpt')}")
        runner.logger.info(f"pictures: {folder}")

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._say(runner, metrics or {}, runner.test_evaluator.metrics)

    def _say(self, runner: Runner, metrics: dict[str, float], tables: list) -> None:
        named = ", ".join(f"{name} {value:.2f}" for name, value in metrics.items() if name in ("top1", "top5"))
        runner.logger.info(f"result: {named or 'none, this run did not validate'}")
        for rows in filter(None, (getattr(table, "per_class", None) for table in tables)):
            path = Path(runner.work_dir) / "per_class.csv"
            draw.save_csv(path, ("class", "top1", "pictures"), rows)
            runner.logger.info(f"per class: {path}")


@HOOKS.register_module()
class CompileHook(Hook):
    """Before training: blocks fused by torch.compile, in place and for all sizes; see `backbones.compile_blocks`.

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
            if self.labels:
                picture = file_ids(dataset.metainfo, len(dataset.metainfo["classes"]))[label]
            else:
                image = mmcv.imread(sample.img_path, channel_order="rgb")
                picture = draw.overlay(image, label, dataset.metainfo["palette"])
            draw.save_png(self.folder / f"{output_name(sample.img_path, dataset)}.png", picture)


def read_scalars(folder: str, name: str) -> dict[int, float]:
    """A scalar of all runs logged below `folder`, by step; later runs replace earlier ones.

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


def save_per_class(path: Path, metrics: list) -> None:
    """Table of the first metric that keeps its numbers per class."""
    for rows in filter(None, (getattr(metric, "per_class", None) for metric in metrics)):
        draw.save_csv(path, ("class", "IoU", "accuracy", "pixels"), rows)
        return
