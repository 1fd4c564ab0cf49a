"""Writes the report of a run: a page that opens from disk, and the tables that it is made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from mmengine.runner import Runner

from vil_dense.files import save_csv, save_json
from vil_dense.mm.datasets.pictures import output_name
from vil_dense.mm.engine.checkpoint_names import POINTER
from vil_dense.mm.engine.hooks.run_facts import config_file, describe_run, environment, model_sizes, repeat_commands
from vil_dense.mm.evaluation.picture_scores import PictureScore, mean_of_classes
from vil_dense.mm.visualization import run_page
from vil_dense.mm.visualization.result_files import finite, save_confusion, save_label_maps
from vil_dense.mm.visualization.run_page import Picture
from vil_dense.report import choose_pictures, command, details, facts, link, page, save_page, tiles
from vil_dense.report.charts import Curve
from vil_dense.report.page import heading, note, paragraph

NAMES = dict(
    mIoU="mIoU, %",
    mBIoU="mBIoU, % (boundary IoU)",
    mAcc="mAcc, % (mean of classes)",
    aAcc="aAcc, % (all pixels)",
    cross_entropy="cross-entropy",
    top1="top-1, %",
    top5="top-5, %",
    Dice="Dice",
    HD95="HD95, mm",
    NSD="NSD (surface Dice)",
)
"""Names of metrics on a page; others have their own."""
CASES = ("validation/metrics.csv", "metrics.csv")
"""Tables of volumes, below the work folder."""


class Evaluation:
    """Collects what the metrics of an evaluation stored, from the first metric that has it."""

    def __init__(self, runner: Runner, split: str, metrics: Mapping[str, float]) -> None:
        self.metrics = {name: value for name, value in metrics.items() if "time" not in name}
        self.stored = getattr(runner, f"{split}_evaluator").metrics if metrics else []
        self.dataset: Any = getattr(runner, f"{split}_dataloader").dataset if self.stored else None
        meta: Mapping[str, Any] = next((metric.dataset_meta or {} for metric in self.stored), {})
        self.classes: Sequence[str] = list(meta.get("classes") or [])
        self.palette: Sequence[Sequence[int]] = meta.get("palette") or []
        self.per_class: Sequence[Sequence] = self._first("per_class", ())
        self.confusion: np.ndarray | None = self._first("confusion", None)
        self.pictures: Sequence[PictureScore] = self._first("pictures", ())

    def _first(self, name: str, default: Any) -> Any:
        found = (getattr(metric, name, None) for metric in self.stored)
        return next((value for value in found if value is not None and len(value)), default)

    def names(self) -> list[str]:
        """Returns the path of each picture below the folder of its data set, with its ending."""
        paths = [Path(score.path or f"{n}") for n, score in enumerate(self.pictures)]
        return [f"{output_name(str(path), self.dataset)}{path.suffix}" for path in paths]


def picture_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns a row for each picture: file, path, scores in % and the IoU of each class; None where it is absent."""
    rows = []
    for name, score in zip(evaluation.names(), evaluation.pictures, strict=True):
        entropy = score.cross_entropy / score.pixels if score.pixels else np.nan
        numbers = dict(
            mIoU=mean_of_classes(score.iou),
            mBIoU=mean_of_classes(score.boundary_iou),
            accuracy=score.accuracy,
            cross_entropy=entropy,
            **{f"IoU {name}": float(iou) for name, iou in zip(evaluation.classes, score.iou, strict=True)},
        )
        known = {key: None if np.isnan(number) else float(number) for key, number in numbers.items()}
        rows.append(dict(file=name, path=score.path, **known))
    return rows


def save_results(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> list[str]:
    """Writes the tables of an evaluation to `folder`, and returns the names of the files."""
    colours = [list(map(int, colour)) for colour in evaluation.palette]
    content = dict(about, metrics=finite(evaluation.metrics), classes=list(evaluation.classes), palette=colours)
    save_json(folder / "result.json", content)
    written = ["result.json", *(["per_class.csv"] if evaluation.per_class else [])]
    if evaluation.confusion is not None:
        save_confusion(folder / "confusion.csv", evaluation.confusion, evaluation.classes)
        written.append("confusion.csv")
    if evaluation.pictures:
        save_csv(folder / "per_image.csv", picture_rows(evaluation))
        written.append("per_image.csv")
        if evaluation.pictures[0].truth:
            maps = [(score.truth, score.prediction) for score in evaluation.pictures]
            save_label_maps(folder / "label_maps.zip", maps)
            written.append("label_maps.zip")
    return written


def report_folder(runner: Runner, split: str) -> Path:
    """Returns the work folder; for a test in that of a training, as by mmseg's own `test.py`, its folder `test`."""
    root = Path(runner.work_dir)
    return root / "test" if split == "test" and (root / POINTER).is_file() else root


def save_report(
    runner: Runner,
    split: str,
    evaluation: Evaluation,
    *,
    tables: str,
    columns: Sequence[str],
    result: str,
    protocol: str = "",
    best: str = "",
    curves: Mapping[str, Mapping[str, Curve]],
    times: Mapping[str, str],
    more: tuple[Sequence[Markup], Mapping[str, Sequence[Markup]]] = ((), {}),
) -> Path:
    """Writes `report.html` to the `report_folder` and the tables of the evaluation to its folder `tables`.

    Args:
        split: `val` for a training, `test` for a test.
        columns: of the table of the classes.
        result: the result in words, for a run without metrics.
        best: a sentence on the best validation, if it was not the last.
        curves: values by step, by title of the chart and name of the curve.
        protocol: how the pictures were scaled and cut, in words.
        times: of the run, in words, by what they are of.
        more: parts for the first screen, after the results, and sections that follow the curves, by heading.

    Returns:
        The path of the page.
    """
    root = report_folder(runner, split)
    sentence, title = describe_run(runner, split), config_file(runner).stem
    about = dict(
        title=title, split=split, protocol=protocol, about=sentence, steps=0 if split == "test" else runner.iter
    )
    prefix = f"{tables}/" if tables else ""
    paths = [prefix + name for name in save_results(root / tables, evaluation, about)]
    paths += [name for name in CASES if (root / name).is_file()]
    how = f"{'Test' if split == 'test' else 'Last validation'}{f': {protocol}' if protocol else ''}.{best}"
    lead = [
        paragraph(sentence),
        *([tiles(_shown(evaluation.metrics)), note(how)] if evaluation.metrics else [paragraph(f"Result: {result}.")]),
        *more[0],
        *(part for what, text in repeat_commands(runner, split).items() for part in (note(what), command(text))),
    ]
    sections: dict[str, list[Any]] = {
        "Curves": run_page.curve_section(curves),
        **{name: [*parts] for name, parts in more[1].items()},
        "Classes": run_page.class_section(columns, evaluation.per_class),
        "Confusion matrix": run_page.confusion_section(evaluation.confusion, evaluation.classes),
        "Pictures": _pictures(evaluation),
        "Run": [facts({**_sizes(runner, evaluation), **times}), heading("Parameters"), facts(model_sizes(runner))],
        "Files": [facts({path.rpartition("/")[2]: link(path, path) for path in paths}), *_config(runner)],
        "Environment": [facts(environment(runner))],
    }
    save_page(root / "report.html", page(title, lead, sections))
    return root / "report.html"


def _shown(metrics: Mapping[str, float]) -> dict[str, str]:
    """Returns metrics as text by their names on a page, those of `NAMES` first; those in % or mm have 2 decimals."""
    order = [*(name for name in NAMES if name in metrics), *(name for name in metrics if name not in NAMES)]
    digits = {name: 2 for name, text in NAMES.items() if text.partition(",")[2]}
    return {NAMES.get(name, name): f"{metrics[name]:.{digits.get(name, 4)}f}" for name in order}


def _pictures(evaluation: Evaluation) -> list[str]:
    if not evaluation.pictures:
        return []
    if not evaluation.pictures[0].truth:
        return [paragraph(f"Pictures are shown for at most 255 classes, and there are {len(evaluation.classes)}.")]
    scores = [mean_of_classes(score.iou) for score in evaluation.pictures]
    names = evaluation.names()
    pictures = [
        Picture(name, score.path, miou, score.truth, score.prediction)
        for name, score, miou in zip(names, evaluation.pictures, scores, strict=True)
    ]
    chosen = {title: [pictures[n] for n in numbers] for title, numbers in choose_pictures(scores).items()}
    rule = "Ranked by the mIoU of each picture, over the classes that are in its truth or in its prediction. "
    errors = "In the error maps wrong pixels are red and unlabelled ones grey."
    palette = evaluation.palette or [(255 * n // len(evaluation.classes),) * 3 for n in range(len(evaluation.classes))]
    return [note(rule + errors), *run_page.picture_section(chosen, evaluation.classes, palette)]


def _sizes(runner: Runner, evaluation: Evaluation) -> dict[str, str]:
    """Returns the sizes of pictures, as text, by what they are of."""
    found = {}
    if crop := runner.cfg.get("crop_size"):
        found["training crop"] = f"{crop[0]} x {crop[1]} px"
    if evaluation.pictures:
        sides = np.array([score.size for score in evaluation.pictures])
        (low_h, low_w), (high_h, high_w) = sides.min(0), sides.max(0)
        same = (low_h, low_w) == (high_h, high_w)
        found["tested pictures"] = f"{len(sides)}, {low_h} x {low_w}" + (
            " px" if same else f" to {high_h} x {high_w} px"
        )
        found["labelled pixels"] = f"{sum(score.pixels for score in evaluation.pictures):,}"
    return found


def _config(runner: Runner) -> list[str]:
    """Returns the config of a run, in a part that is closed at first."""
    path = config_file(runner)
    if not path.is_file():
        return []
    return [
        heading("Config"),
        details(f"the config as it was resolved, {path.name}", command(path.read_text(encoding="utf-8"))),
    ]
