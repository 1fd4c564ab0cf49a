"""Volumes on MMEngine's Runner: segmentor, cases, draws, per-case scores; `custom_imports` of volume configs names it.

The only module here that imports MONAI, so that pictures are segmented without it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from monai.inferers import sliding_window_inference
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor
from torch.utils.data import Dataset

from vil_dense.backbones.checkpoint import to_own
from vil_dense.backbones.memory import GIB
from vil_dense.medical.data.cache import Cases
from vil_dense.medical.data.checks import Counts, check_cases
from vil_dense.medical.data.datalist import Case, read_datalist
from vil_dense.medical.data.transforms import augmentation, draw, plain, preprocess, read_plan, training_cases
from vil_dense.medical.metrics import TOLERANCE_MM, VALUES, Classes, Score, save_scores, score_case, summarise
from vil_dense.medical.networks.nets import build_network, logits_of
from vil_dense.medical.networks.sequence import load_picture_blocks, sequence_share
from vil_dense.medical.progress import Progress
from vil_dense.mm.datasets.retry import patiently
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.engine.hooks.reports import read_scalars
from vil_dense.mm.models.pretrained import naming
from vil_dense.mm.visualization.draw import save_curves
from vil_dense.state_files import read_state


def say(line: str) -> None:
    print_log(line, "current")


@MODELS.register_module()
class VolumeSegmentor(BaseModel):
    """A network of `medical.NETWORKS`, its loss, and prediction by sliding window.

    Args:
        plan: mapping or path, see `medical.transforms`.
        network: `type`, a key of `medical.NETWORKS`, and its options; channels, classes, spacing and patch come from
            the plan.
        overlap: of neighbouring windows, in [0, 1).
        window_batch: windows at a time.
        dice_weight: of the Dice loss beside cross entropy, which has 1.
        picture_weights: file of a picture's ViL, whose blocks start the sequence blocks of its width.
    """

    def __init__(
        self,
        plan: Mapping[str, Any] | str,
        network: dict[str, Any],
        overlap: float = 0.5,
        window_batch: int = 1,
        dice_weight: float = 1.0,
        picture_weights: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.plan = read_plan(plan)
        self.network = build_network(self.plan, **network)
        self.overlap, self.window_batch = overlap, window_batch
        # Dice over the whole batch, as a class that one patch lacks would give that patch no gradient but noise.
        dice_ce = DiceCELoss(
            include_background=False, to_onehot_y=True, softmax=True, batch=True, lambda_dice=dice_weight
        )
        self.loss = DeepSupervisionLoss(dice_ce)
        if picture_weights:
            with naming(picture_weights):
                report = load_picture_blocks(self.network, to_own(read_state(picture_weights)))
            say(f"start: {report}, {picture_weights}")
        say(describe(self.network, self.plan["patch_vox"]))

    def forward(
        self, image: Tensor, label: Tensor | None = None, name: Sequence[str] = (), mode: str = "tensor"
    ) -> Any:
        """MMEngine's three modes; image (B, C, I, J, K), label (B, 1, I, J, K) of class values.

        `loss` gives a dict with the loss, `predict` a list of dicts with `name`, `prediction` and `truth` (I, J, K)
        uint8, `tensor` the logits.
        """
        if mode == "loss":
            return dict(loss=self.loss(logits_of(self.network(image)), label.float()))
        if mode == "predict":
            prediction = self.logits(image).argmax(1).to(torch.uint8).cpu()
            truth = [None] * len(image) if label is None else label[:, 0].to(torch.uint8).cpu()
            return [
                dict(name=who, prediction=mask, truth=true)
                for who, mask, true in zip(name, prediction, truth, strict=True)
            ]
        return logits_of(self.network(image))[0]

    def logits(self, image: Tensor) -> Tensor:
        """Logits of whole volumes (B, K, I, J, K) by Gaussian-weighted windows of the plan's patch."""
        whole = image[:, 0].numel() * len(self.plan["labels"]) * 4
        return sliding_window_inference(
            image,
            tuple(self.plan["patch_vox"]),
            self.window_batch,
            lambda windows: logits_of(self.network(windows))[0],
            overlap=self.overlap,
            mode="gaussian",
            device=image.device if whole < 2 * GIB else torch.device("cpu"),
        )


def describe(network: torch.nn.Module, patch_vox: Sequence[int]) -> str:
    """One line: parameters, the share of the sequence blocks, tokens of a patch at each of their scales."""
    numbers = sequence_share(network)
    tokens = network.tokens(patch_vox) if hasattr(network, "tokens") else {}
    at = ", ".join(f"{count} at {scale}" for scale, count in tokens.items()) or "none"
    return (
        f"network: {type(network).__name__}, {numbers['total']:,} parameters, {numbers['share']:.1%} in sequence "
        f"blocks; tokens of a patch of {'x'.join(map(str, patch_vox))}: {at}"
    )


def _check(cases: Sequence[Case], plan: Mapping[str, Any], what: str, seconds: float) -> None:
    """Read cases and say what their labels hold; ValueError where they cannot be used."""
    counts = Counts(plan["labels"])
    values = sorted(plan["labels"].values())
    check_cases(cases, len(plan["channels"]), values, Progress("checking", say), counts, seconds)
    say(counts.table(f"labels of the {what} cases: {counts.read} of {len(cases)} read, evenly spread"))
    absent = counts.absent()
    if what == "training" and counts.read == len(cases) and len(absent) >= len(values) - 1:
        raise ValueError(f"every voxel of the {len(cases)} {what} cases is of one class: nothing to learn")
    if absent:
        say(f"warning: no voxel that was read is of {', '.join(absent)}")


@DATASETS.register_module()
class VolumeDataset(Dataset):
    """Cases of a fold: for training patches by draw, else whole preprocessed volumes.

    An index for training is a key of `KeyedInfiniteSampler`: a patch depends on seed, epoch and case alone.

    Args:
        data_root: folder, see `medical.datalist.read_datalist`.
        plan: mapping or path, see `medical.transforms`.
        datalist: JSON in place of the folder's own list.
        fold: validation fold; training takes the others. None takes all cases.
        patient: see `medical.datalist.with_folds`.
        train: patches, else volumes.
        augment: options of `medical.transforms.augmentation`.
        cache_gib: cap on preprocessed cases kept in memory.
        check_s: how long files are read and checked first, s; None reads none. Configs say `label_check`.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the data, the case named.
    """

    def __init__(
        self,
        data_root: str,
        plan: Mapping[str, Any] | str,
        datalist: str | None = None,
        fold: int | None = 0,
        patient: str | None = None,
        train: bool = True,
        augment: Mapping[str, Any] | None = None,
        cache_gib: float = 4.0,
        check_s: float | None = math.inf,
    ) -> None:
        self.plan = plan = read_plan(plan)
        listed = read_datalist(data_root, datalist, patient=patient)
        cases = list(listed.cases) if fold is None else listed.split(fold)[0 if train else 1]
        if check_s is not None:
            _check(cases, plan, "training" if train else "validation", check_s)
        self.augment = augmentation(plan, **(augment or {})) if train else None
        transform = (training_cases if train else preprocess)(plan)
        self.cases = Cases(cases, plan, transform, cache_gib, Progress("preprocessing", say), say)
        self.metainfo = dict(classes=tuple(plan["labels"]))

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.augment is not None and not isinstance(index, SampleKey):
            raise ValueError("patches need the keys of a KeyedInfiniteSampler, got a plain index")
        source = self.cases.sources[index]
        images = source["image"] if isinstance(source["image"], list) else [source["image"]]
        case = patiently(lambda: self.cases[index], [*images, *([source["label"]] if "label" in source else [])])
        if self.augment is not None:
            return dict(draw(self.augment, case, index.seed, index.epoch, int(index)), name=case["name"])
        return dict(name=case["name"], image=plain(case["image"]), label=plain(case["label"]).long())


@METRICS.register_module()
class VolumeMetric(BaseMetric):
    """Dice, HD95 (mm) and NSD of each class and case on the plan's grid, by the rule of `medical.metrics`.

    `Dice`, `HD95` and `NSD` are means over the classes' means; `Dice_<class>` that of one.

    Args:
        classes: name -> label, or the labels of a region; those of the plan unless given.

    Attributes:
        scores: after an evaluation, a `medical.metrics.Score` for each case and class.
    """

    default_prefix = ""

    def __init__(
        self,
        plan: Mapping[str, Any] | str,
        classes: Classes | None = None,
        tolerance_mm: float = TOLERANCE_MM,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        plan = read_plan(plan)
        self.options: dict[str, Any] = dict(
            classes=classes or {name: value for name, value in plan["labels"].items() if value > 0},
            spacing_mm=plan["spacing_mm"],
            tolerance_mm=tolerance_mm,
        )
        self.scores: list[Score] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            # One entry for each case: MMEngine cuts the list to the number of cases.
            self.results.append(score_case(sample["name"], sample["prediction"], sample["truth"], **self.options))

    def compute_metrics(self, results: list[list[Score]]) -> dict[str, float]:
        self.scores = [score for case in results for score in case]
        summary = summarise(self.scores)
        named = {name: summary["mean"][value] for name, value in zip(("Dice", "HD95", "NSD"), VALUES, strict=True)}
        named |= {f"Dice_{name}": row["dice"] for name, row in summary["structures"].items()}
        return {name: math.nan if value is None else value for name, value in named.items()}


@HOOKS.register_module()
class VolumeReportHook(Hook):
    """After each validation a table per case and class (CSV, JSON) in the work folder; result and curves at the end."""

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
        for metric in evaluator.metrics:
            if isinstance(metric, VolumeMetric) and metric.scores:
                save_scores(metric.scores, folder, tolerance_mm=metric.options["tolerance_mm"])

    def folder(self, runner: Runner) -> Path:
        """Of the tables of the last validation."""
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
