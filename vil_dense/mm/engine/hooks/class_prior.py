"""Starts the classifiers of a segmentor at the frequencies of the classes."""

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.utils.unwrap import unwrap


@HOOKS.register_module()
class ClassPriorHook(Hook):
    """Sets the biases of the classifiers to the logarithms of the class frequencies before a training from scratch.

    A classifier that starts at equal probabilities first learns that one class is frequent, and its features come to
    say nothing else: after a ReLU they may all be 0 at a rare class, whose probability is then that of the bias alone
    and stays below a half for hundreds of steps. The prior takes this phase away (RetinaNet, arXiv 1708.02002, section
    4.1, for two classes). A resumed run, and classifiers that `load_from` or `model.init_cfg` loads, keep their biases.
    Heads without a softmax over the classes are left as they are.

    Args:
        samples: number of training samples whose labels are counted, evenly spread.

    Raises:
        ValueError: `samples` is not positive.
    """

    def __init__(self, samples: int = 64) -> None:
        if samples < 1:
            raise ValueError(f"samples is a whole number from 1 on, got {samples}")
        self.samples = samples

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        biases = self.biases(model)
        if runner.iter > 0 or runner._load_from or not biases:
            return
        dataset = runner.train_dataloader.dataset
        indices = np.unique(np.linspace(0, len(dataset) - 1, min(self.samples, len(dataset)), dtype=int))
        counts = sum(self.counts(model, dataset[SampleKey(int(index), runner.seed)]) for index in indices)
        logits, fractions = self.logits(model, np.asarray(counts) + 1)  # each class has one pixel at least
        for bias in biases:
            bias.data.copy_(torch.from_numpy(logits).to(bias))
        shares = ", ".join(f"{100 * fraction:.3g}" for fraction in fractions)
        runner.logger.info(f"class prior: the biases of {len(biases)} classifiers start at frequencies of {shares} %")

    def biases(self, model: Any) -> list[Tensor]:
        """Returns the biases (K,) that the hook sets."""
        if getattr(model, "init_cfg", None):
            return []
        heads = [module for module in model.modules() if isinstance(module, BaseDecodeHead)]
        heads = [head for head in heads if getattr(head, "conv_seg", None) is not None]
        return [head.conv_seg.bias for head in heads if head.out_channels == head.num_classes > 1]

    def counts(self, model: Any, sample: dict[str, Any]) -> np.ndarray:
        """Returns the number of pixels of each class (K,) in a training sample."""
        classes = len(self.biases(model)[0])
        label = sample["data_samples"].gt_sem_seg.data.numpy()
        return np.bincount(label[(label >= 0) & (label < classes)], minlength=classes)

    def logits(self, model: Any, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the biases (K,) for the summed counts, and the frequencies that they stand for."""
        fractions = counts / counts.sum()
        return np.log(fractions), fractions
