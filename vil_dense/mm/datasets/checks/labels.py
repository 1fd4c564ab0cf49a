"""Checks label maps before the first step, so that a wrong setup ends with a clear error.

mmseg reads any label as uint8: ids beyond 255 wrap and colours become ids. An id that is neither a class nor ignored
ends in an error of the loss on a CPU, in a device-side assert on a GPU, or in no error and a useless run.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from torch import nn

from vil_dense.files import describe_skipped, sample_evenly
from vil_dense.mm.datasets.checks.heads import check_heads
from vil_dense.mm.datasets.checks.overlap import check_overlap
from vil_dense.mm.datasets.checks.pairs import keeps_bits, load_pair, own_loaders, read_pair
from vil_dense.mm.datasets.label_ids import IGNORED, trained_ids
from vil_dense.mm.datasets.wrappers import parts
from vil_dense.mm.utils.unwrap import unwrap

SECONDS = 60.0
"""Default time limit of the check, for all data sets of a run together."""
SHOWN = 3
"""Examples listed in a message."""


@dataclass
class Survey:
    """Counts the ids in the labels of a data set.

    Args:
        pairs: number of pairs of picture and label in the data set.
        read: number of pairs that were read.
        pixels: pixels of each id after loading, (256,) int64.
        pictures: pictures with each id after loading, (256,) int64.
        raw: pixels of each id in the files, (256,) int64.
        example: a file for each id after loading.
        faults: a sentence for each pair that cannot be used.
    """

    pairs: int
    read: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pictures: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    raw: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    example: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def check_labels(runner: Runner, options: dict | None, splits: Sequence[str]) -> None:
    """Checks an evenly spread sample of a segmentor's labels and logs a table of each data set.

    Data sets other than mmseg's, and those without labels, are skipped. Of several processes, only the first reads.

    Args:
        options: `seconds`, the time limit for all data sets together, and `allow_overlap` of training and validation
            data; None skips the check.
        splits: some of `train`, `val` and `test`; a split for which the runner has no loop is skipped.

    Raises:
        ValueError: the labels or the setup are wrong; says how.
    """
    if options is None:
        runner.logger.info("labels: not checked, label_check is None")
        return
    if unknown := [key for key in options if key not in ("seconds", "allow_overlap")]:
        raise ValueError(f"label_check takes seconds and allow_overlap, got {', '.join(unknown)}")
    if {"train", "val"} <= set(splits) and runner.val_loop and not options.get("allow_overlap"):
        check_overlap(runner.train_loop.dataloader.dataset, runner.val_loop.dataloader.dataset)
    network = unwrap(runner.model)
    loops = {split: getattr(runner, f"{split}_loop") for split in splits}
    found = [(split, part) for split, loop in loops.items() if loop for part in parts(loop.dataloader.dataset)]
    found = [(split, part) for split, part in found if isinstance(part, BaseSegDataset) and is_labelled(part)]
    if not found or not hasattr(network, "decode_head"):
        return
    verdict: list[str | None] = [None]
    if is_main_process():
        try:
            whole = Survey(0)  # of all training data: a part may have one class
            last = [split for split, _ in found].count("train") - 1
            for number, (split, dataset) in enumerate(found):
                metrics = getattr(runner, f"{split}_evaluator").metrics if split != "train" else []
                seconds = options.get("seconds", SECONDS) / len(found)
                before = whole if split == "train" else None
                _check(split, dataset, network, metrics, seconds, runner.logger.info, before, number == last)
        except ValueError as error:
            verdict = [str(error)]
    broadcast_object_list(verdict)
    if verdict[0]:
        raise ValueError(verdict[0])


def is_labelled(dataset: BaseSegDataset) -> bool:
    """Returns whether a data set has label pictures."""
    return bool(len(dataset)) and "seg_map_path" in dataset.get_data_info(0)


def _check(
    split: str,
    dataset: BaseSegDataset,
    network: nn.Module,
    metrics: Sequence[object],
    seconds: float,
    log: Callable[[str], None],
    whole: Survey | None = None,
    last: bool = False,
) -> None:
    """Checks one data set; `whole` counts the training data up to the `last`, which together need two classes."""
    heads = check_heads(network, dataset, split, metrics)
    names = dataset.metainfo.get("classes") or ()
    classes, ignored, reduced = heads[0].num_classes, heads[0].ignore_index, dataset.reduce_zero_label
    names = names or [str(number) for number in range(classes)]
    folder = dataset.data_prefix.get("img_path")
    reported = dataset.ann_file or getattr(dataset, "reports_skipped", False)  # a list may leave out what it likes
    if folder and os.path.isdir(folder) and not reported:
        pairs = (dataset.get_data_info(index) for index in range(len(dataset)))
        if skipped := describe_skipped(
            Path(folder), (pair[key] for pair in pairs for key in ("img_path", "seg_map_path"))
        ):
            log(f"warning: {skipped} (img_suffix of {type(dataset).__name__} is {dataset.img_suffix})")
    survey = count_labels(dataset, seconds)
    log(table(split, survey, names, ignored))
    fault = find_errors(survey, classes, ignored, reduced, train=False)
    if whole:
        whole.pixels, whole.raw = whole.pixels + survey.pixels, whole.raw + survey.raw
        if last and not fault:
            fault = find_errors(whole, classes, ignored, reduced)
    if fault:
        raise ValueError(f"labels of the {split} data: {fault}")
    for warning in find_warnings(survey, names, ignored, reduced):
        log(f"warning: labels of the {split} data: {warning}")


def count_labels(dataset: BaseSegDataset, seconds: float) -> Survey:
    """Counts the ids in evenly spread pairs until all are read or the time is up; reads at least one pair."""
    survey, end = Survey(len(dataset)), time.monotonic() + seconds
    loaders, any_bits = own_loaders(dataset), keeps_bits(dataset)
    as_trained = np.arange(256) if loaders else trained_ids(dataset.metainfo)
    for index in sample_evenly(len(dataset)):
        pair = dataset.get_data_info(index)
        survey.read += 1
        try:
            if loaders:
                label = load_pair(pair, loaders, any_bits=any_bits)
            else:
                label = read_pair(pair["img_path"], pair["seg_map_path"], dataset.backend_args, any_bits=any_bits)
        except ValueError as error:
            survey.faults.append(str(error))
        else:
            counts = np.bincount(label.ravel(), minlength=256)
            loaded = np.bincount(as_trained, counts, 256).astype(np.int64)
            survey.raw += counts
            survey.pixels += loaded
            survey.pictures += loaded > 0
            for id_ in np.flatnonzero(loaded).tolist():
                survey.example.setdefault(id_, pair["seg_map_path"])
        if time.monotonic() > end:
            break
    return survey


def table(split: str, survey: Survey, names: Sequence[str], ignored: int) -> str:
    """Formats the fraction of pixels of each class and of ignored pixels, and in how many pictures they occur."""
    total = max(int(survey.pixels.sum()), 1)
    named = dict(enumerate(names))
    if survey.pixels[ignored] or str(ignored) not in names:  # such a class has this value in its files alone
        named[ignored] = "ignored"
    rows = [*named, *(id_ for id_ in np.flatnonzero(survey.pixels).tolist() if id_ not in named)]
    lines = [
        f"labels of the {split} data: {survey.read} of {survey.pairs} pairs read, evenly spread",
        f"{'id':>5}  {'class':<20} {'% of pixels':>12} {'pictures':>9}",
    ]
    for id_ in rows:
        share = 100 * int(survey.pixels[id_]) / total
        name = named.get(id_, "no class, not ignored")
        lines.append(f"{id_:>5}  {name:<20} {share:>12.2f} {int(survey.pictures[id_]):>9}")
    return "\n".join(lines)


def find_errors(survey: Survey, classes: int, ignored: int, reduce_zero_label: bool, train: bool = True) -> str:
    """Describes what is wrong in one sentence; returns an empty string if nothing is.

    Args:
        classes: number of classes.
        ignored: the id that the loss ignores.
        reduce_zero_label: setting of the data set.
        train: whether the split is for training, which needs more than one class.
    """
    if survey.faults:
        more = f"; and {len(survey.faults) - SHOWN} more" if len(survey.faults) > SHOWN else ""
        some = "; ".join(survey.faults[:SHOWN])
        return f"{len(survey.faults)} of {survey.read} pairs that were read cannot be used: {some}{more}"
    present = np.flatnonzero(survey.pixels).tolist()
    outside = [id_ for id_ in present if id_ >= classes and id_ != ignored]
    inside = [id_ for id_ in present if id_ < classes and id_ != ignored]
    if outside:
        share = 100 * survey.pixels[outside].sum() / survey.pixels.sum()
        after = " once reduce_zero_label took 1 off" if reduce_zero_label else ""
        return (
            f"{share:.2g} % of the pixels have ids that are none of the {classes} classes, 0 to {classes - 1}, and not "
            f"ignored, {ignored}: {_few(outside)}{after}, the first in {survey.example[outside[0]]}; "
            + _remedy(outside, classes, ignored, reduce_zero_label)
        )
    files = f"the files hold {_few(np.flatnonzero(survey.raw).tolist())}"
    zero = " and reduce_zero_label=True makes 0 an ignored id" if reduce_zero_label and survey.raw[0] else ""
    if not inside:
        return f"every pixel is ignored, {ignored}: {files}{zero}"
    if train and len(inside) == 1:
        masks = ", and 255 is ignored: write 1 in its place" if survey.raw[IGNORED] and not zero else ""
        return f"class {inside[0]} is the only one, so nothing can be learned: {files}{zero}{masks}"
    return ""


def find_warnings(survey: Survey, names: Sequence[str], ignored: int, reduce_zero_label: bool) -> list[str]:
    """Returns a line on each oddity that may be intended: classes without pixels, ids that seem to start at 0 already.

    The latter would lose their class 0 to `reduce_zero_label`.
    """
    absent = [name for id_, name in enumerate(names) if not survey.pixels[id_] and id_ != ignored]
    some = ", ".join(absent[:SHOWN]) + (f" and {len(absent) - SHOWN} more classes" if len(absent) > SHOWN else "")
    lines = [f"no pixel that was read is of {some}"] if absent else []
    if reduce_zero_label and survey.raw[0] and not survey.raw[len(names)]:
        lines.append(
            f"reduce_zero_label=True makes id 0 an ignored id, and no pixel that was read has id {len(names)}: "
            f"if the files count the classes from 0 to {len(names) - 1}, set it to False"
        )
    return lines


def _remedy(outside: list[int], classes: int, ignored: int, reduce_zero_label: bool) -> str:
    correct = "set num_classes and the classes of the data set, or correct the labels"
    if IGNORED in outside:
        return f"mmseg writes {IGNORED} for ignored pixels: set ignore_index={IGNORED} in the heads"
    if outside == [classes] and not reduce_zero_label:
        return f"if the files count the classes from 1 and 0 is ignored, set reduce_zero_label=True, else {correct}"
    return correct


def _few(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    return f"id{'s' * (len(ids) > 1)} {shown}"
