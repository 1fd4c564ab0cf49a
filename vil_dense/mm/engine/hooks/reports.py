"""Reports a run: lines at its end, a page, curves, panels, tables, overlays."""

import json
import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
from markupsafe import Markup
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from vil_dense.backbones import compile_blocks
from vil_dense.files import save_csv, save_png
from vil_dense.mm.datasets.label_ids import file_ids
from vil_dense.mm.datasets.pictures import output_name
from vil_dense.mm.datasets.transforms.raster import read_to_show
from vil_dense.mm.engine.checkpoints import SafeCheckpointHook
from vil_dense.mm.engine.hooks.report_page import Evaluation, report_folder, save_report
from vil_dense.mm.evaluation.protocols import describe
from vil_dense.mm.visualization import draw


def label_of(sample: SegDataSample, key: str) -> np.ndarray:
    """Returns a label map (H, W) int64 of an mmseg sample, `pred_sem_seg` or `gt_sem_seg`."""
    label = getattr(sample, key).data
    return label.reshape(label.shape[-2:]).long().cpu().numpy()  # one logit gives floats


class RunReportHook(Hook):
    """Logs result, checkpoint and folders after training and testing, a line each, and writes the page of a run.

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
    """Path of the tables of each split, below the work folder."""
    charts: ClassVar[dict[str, dict[str, str]]] = {}
    """Logged scalars of the page's charts, by title and name of the curve."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        # No number, so that `HookStateHook` does not keep it: a resumed run starts anew.
        self.started = timedelta(seconds=time.monotonic())

    def before_train(self, runner: Runner) -> None:
        self.started = timedelta(seconds=time.monotonic())

    def before_test(self, runner: Runner) -> None:
        self.started = timedelta(seconds=time.monotonic())

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
        charts = {
            title: {name: read_scalars(logs, scalar) for name, scalar in named.items()}
            for title, named in {**self.scalars(), "Learning rate": {"learning rate": "lr"}}.items()
        }
        # Lines of a validation have the time of its steps.
        steps = [seconds for step, seconds in read_scalars(logs, "time").items() if step not in curves[1]]
        self.save_page(runner, "val", self.metrics, charts, steps, self.best(curves[1]))
        runner.logger.info(f"checkpoint: {runner.message_hub.get_info('last_ckpt')}")
        for hook in (hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)):
            for line in hook.describe_best(runner):
                runner.logger.info(line)
        runner.logger.info(f"pictures: {pictures}")

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        runner.logger.info(f"result: {self.result(runner, metrics or {}, 'test')}")
        self.save_table(runner, "test")
        self.save_page(runner, "test", metrics or {}, {}, [], "")

    def best(self, curve: dict[int, float]) -> str:
        """Returns a sentence on the highest value of the metric, if it was not the last."""
        step = max(curve, key=lambda step: curve[step], default=None)
        if step is None or curve[step] == [*curve.values()][-1]:
            return ""
        return f" The highest {self.metric} was {curve[step]:{self.floats}}, at step {step}."

    def save_page(
        self,
        runner: Runner,
        split: str,
        metrics: dict[str, float],
        charts: dict[str, dict[str, dict[int, float]]],
        steps: list[float],
        best: str,
    ) -> None:
        """Writes the page of a training (`split` val) or a test, and the tables of its last evaluation.

        Args:
            charts: values by step, by title of the chart and name of the curve.
            steps: seconds that logged steps took.
            best: a sentence for the page.
        """
        seconds = time.monotonic() - self.started.total_seconds()
        times = {"time of this start": f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} s"}
        if steps:
            times["time of a step"] = f"{statistics.median(steps):.3f} s (median)"
        path = save_report(
            runner,
            split,
            Evaluation(runner, split, metrics),
            tables=self.folders[split],
            columns=self.columns,
            result=self.result(runner, metrics, split),
            protocol=self.protocol(runner, split) if metrics else "",
            best=best,
            curves=charts,
            times=times,
            more=self.parts(runner, split),
        )
        runner.logger.info(f"report: {path}")

    def scalars(self) -> dict[str, dict[str, str]]:
        """Returns the logged scalars of the page's charts, by title and name of the curve."""
        return dict(self.charts)

    def parts(self, runner: Runner, split: str) -> tuple[list[Markup], dict[str, list[Markup]]]:
        """Returns further parts of the page: for its first screen, after the results, and sections by heading."""
        return [], {}

    def protocol(self, runner: Runner, split: str) -> str:
        """Returns how pictures of a split are scaled and cut; empty if there is only one way."""
        return ""

    def result(self, runner: Runner, metrics: dict[str, float], split: str) -> str:
        """Returns the metrics of an evaluation on one line."""
        names = self.shown or [name for name in metrics if "time" not in name]
        named = ", ".join(f"{name} {metrics[name]:{self.floats}}" for name in names if name in metrics)
        return named or "none, this run did not validate"

    def save_table(self, runner: Runner, split: str) -> None:
        """Writes the table of the first metric that keeps its numbers per class."""
        evaluator = getattr(runner, f"{split}_evaluator")
        for rows in filter(None, (getattr(metric, "per_class", None) for metric in evaluator.metrics)):
            path = report_folder(runner, split) / self.folders[split] / "per_class.csv"
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
    shown = ("mIoU", "mBIoU", "mAcc", "aAcc", "cross_entropy")
    columns = ("class", "IoU", "boundary_IoU", "accuracy", "pixels")
    folders: ClassVar[dict[str, str]] = dict(val="pictures", test="")
    charts: ClassVar[dict[str, dict[str, str]]] = {
        "Loss": {
            "training, all heads": "loss",
            "training, decode head": "decode.loss_ce",
            "validation, cross-entropy": "cross_entropy",
        },
        "Validation, %": {"mIoU": "mIoU", "mBIoU": "mBIoU", "mAcc": "mAcc"},
        "Pixel accuracy, %": {"training": "decode.acc_seg", "validation": "aAcc"},
    }

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
            image = read_to_show(outputs[0].img_path)
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

    def protocol(self, runner: Runner, split: str) -> str:
        return describe(runner.cfg, split)


@HOOKS.register_module()
class ClassReportHook(RunReportHook):
    """Reports a classifier."""

    metric = "top1"
    shown = ("top1", "top5")
    columns = ("class", "top1", "pictures")
    charts: ClassVar[dict[str, dict[str, str]]] = {
        "Loss": {"training": "loss"},
        "Validation, %": {"top-1": "top1", "top-5": "top5"},
    }


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
        meta = dataset.metainfo
        for sample in outputs or []:
            label, classes, palette = label_of(sample, "pred_sem_seg"), meta["classes"], meta["palette"]
            path = self.folder / f"{output_name(sample.img_path, dataset)}.png"
            if self.labels:
                ids = file_ids(meta, len(classes))
                draw.save_labels(path, ids[label], ids, palette)
            else:
                image = read_to_show(sample.img_path)
                save_png(path, draw.add_legend(draw.overlay(image, label, palette), label, classes, palette))


def read_scalars(folder: str, name: str) -> dict[int, float]:
    """Reads a scalar of all logs of a work folder, or of one log's folder, by step; later logs replace earlier ones.

    Logs of runs that were moved aside (`previous_N/*`) are not read. The last line of a run that was killed may be cut
    off, and is left out.

    Raises:
        ValueError: another line is no JSON; names the file.
    """
    curve: dict[int, float] = {}
    name_of_log, root = "vis_data/scalars.json", Path(folder)
    for file in (*root.glob(name_of_log), *sorted(root.glob(f"*/{name_of_log}"))):
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
