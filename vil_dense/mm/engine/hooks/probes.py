"""Probes the features of a masked pretraining on labelled pictures while it trains."""

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from vil_dense.mm.datasets.class_folders import LabelledPictures, check_same_classes
from vil_dense.mm.datasets.transforms.imagenet import RandomResizedCrop
from vil_dense.mm.datasets.wrappers import parts
from vil_dense.mm.evaluation.probe import features, knn_scores, linear_scores, top_accuracy
from vil_dense.mm.utils.unwrap import unwrap

SPLITS = ("train", "val")
"""Folders of the pictures that vote, and of those that are classified."""


@HOOKS.register_module()
class ProbeHook(Hook):
    """Logs how well the frozen features of a `MaskedImageModel` tell classes apart: nearest neighbours, linear probe.

    The features are those of `MaskedImageModel.pooled`. The first process alone computes them, on the pictures of
    `data_root/train/CLASS` and `data_root/val/CLASS`: a few thousand are enough. The scalars `knn_top1` and
    `linear_top1` are in percent.

    Args:
        data_root: folder of the labelled pictures; None for no probe.
        interval: steps between two probes; one more is made at the end.
        k: nearest neighbours that vote, see `knn_scores`.
        batch_size: pictures that the network sees at one time.

    Raises:
        FileNotFoundError, ValueError: before the first step, if the folder cannot be used, or the pipeline of training
            has no `RandomResizedCrop`.
    """

    def __init__(self, data_root: str | None = None, interval: int = 5000, k: int = 20, batch_size: int = 32) -> None:
        if min(interval, k, batch_size) < 1:
            raise ValueError(
                f"interval, k and batch_size of ProbeHook are 1 or more, got {interval}, {k} and {batch_size}"
            )
        self.data_root, self.interval, self.k, self.batch_size = data_root, interval, k, batch_size
        self.loaders: dict[str, DataLoader] = {}
        self.classes = 0
        self.last_step = 0

    def before_train(self, runner: Runner) -> None:
        if self.data_root is None or not is_main_process():
            return
        steps = next(parts(runner.train_dataloader.dataset)).pipeline.transforms
        size = next((step.size for step in reversed(steps) if isinstance(step, RandomResizedCrop)), None)
        if size is None:
            raise ValueError("ProbeHook takes its size from RandomResizedCrop, which the pipeline of training lacks")
        pipeline = [dict(type="LoadPicture"), dict(type="ResizeCentreCrop", size=size), dict(type="PackPicture")]
        datasets: dict[str, LabelledPictures] = {
            split: DATASETS.build(
                dict(type="LabelledPictures", data_root=self.data_root, split=split, pipeline=pipeline, test_mode=True)
            )
            for split in SPLITS
        }
        check_same_classes(datasets["train"], datasets["val"])
        self.classes = len(datasets["train"].metainfo["classes"])
        self.loaders = {split: DataLoader(dataset, self.batch_size) for split, dataset in datasets.items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        if self.loaders and self.every_n_train_iters(runner, self.interval):
            self.probe(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        if self.loaders and self.last_step != runner.iter:
            self.probe(runner, runner.iter)

    def probe(self, runner: Runner, step: int) -> None:
        """Logs the accuracies after `step` steps."""
        model = unwrap(runner.model)
        training = model.training
        with torch.random.fork_rng():
            found = {split: features(model, loader) for split, loader in self.loaders.items()}
        model.train(training)
        scalars = accuracies(found["train"], found["val"], self.classes, self.k)
        runner.visualizer.add_scalars(scalars, step=step)
        named = ", ".join(f"{name} {value:.2f} %" for name, value in scalars.items())
        runner.logger.info(f"probe of {self.data_root} at step {step}: {named}")
        self.last_step = step


def accuracies(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], classes: int, k: int) -> dict[str, float]:
    """Returns `knn_top1` and `linear_top1` of features (N, C) and labels (N,) of two splits, in percent."""
    scores = dict(
        knn_top1=knn_scores(*train, val[0], classes, k), linear_top1=linear_scores(*train, val[0], classes)[0]
    )
    return {name: top_accuracy(values, val[1], 1) for name, values in scores.items()}
