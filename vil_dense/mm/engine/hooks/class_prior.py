"""Starts the classifiers of a segmentor at the frequencies of the classes."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.utils.unwrap import unwrap


@HOOKS.register_module()
class ClassPriorHook(Hook):
    """Sets the biases of the classifiers to the logarithms of the class frequencies before a training from scratch.

    A classifier that starts at equal probabilities first learns that one class is frequent, and its features come to
    say nothing else: after a ReLU they may all be 0 at a rare class, whose probability is then that of the bias alone
    and stays below a half for hundreds of steps. The prior takes this phase away (RetinaNet, arXiv 1708.02002, section
    4.1, for two classes). A resumed run, and one that starts with `load_from`, keep their biases. Heads without a
    softmax over the classes are left as they are.

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
        heads = [
            module
            for module in unwrap(runner.model).modules()
            if isinstance(module, BaseDecodeHead) and getattr(module, "conv_seg", None) is not None
        ]
        heads = [head for head in heads if head.out_channels == head.num_classes > 1]
        if runner.iter > 0 or runner._load_from or not heads:
            return
        fractions = self.count(runner, heads[0].num_classes)
        for head in heads:
            bias = head.conv_seg.bias
            bias.data.copy_(torch.from_numpy(np.log(fractions)).to(bias))
        shares = ", ".join(f"{100 * fraction:.2g}" for fraction in fractions)
        runner.logger.info(f"class prior: biases of {len(heads)} classifiers start at log of {shares} % of the pixels")

    def count(self, runner: Runner, num_classes: int) -> np.ndarray:
        """Returns the fraction of the pixels of each class, (K,) float64, at least that of one pixel."""
        dataset = runner.train_dataloader.dataset
        counts = np.ones(num_classes)
        for index in np.unique(np.linspace(0, len(dataset) - 1, min(self.samples, len(dataset)), dtype=int)):
            label = dataset[SampleKey(int(index), runner.seed)]["data_samples"].gt_sem_seg.data.numpy()
            counts += np.bincount(label[(label >= 0) & (label < num_classes)], minlength=num_classes)
        return counts / counts.sum()
