"""Computes the loss of classes or regions, which leaves out voxels that nobody annotated."""

from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, MaskedDiceLoss
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.label_map import LabelMap


class PartialLoss(_Loss):
    """Adds Dice and cross entropy of classes (softmax), or binary cross entropy of regions (sigmoid).

    Both are over annotated voxels alone, and Dice is over the whole batch, as a class that one patch lacks would give
    that patch no gradient but noise.

    Args:
        plan: mapping or path, see `plan_schema`.
        dice_weight: of the Dice loss beside cross entropy, which has 1.
    """

    membership: Tensor

    def __init__(self, plan: Plan | str, dice_weight: float = 1.0) -> None:
        super().__init__()
        labels = LabelMap.of(read_plan(plan))
        self.first_group, self.regions, self.dice_weight = labels.first_group, labels.regions, dice_weight
        self.register_buffer("membership", torch.from_numpy(labels.membership).float(), persistent=False)
        self.dice = MaskedDiceLoss(
            include_background=labels.regions, sigmoid=labels.regions, softmax=not labels.regions, batch=True
        )

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Returns the loss of logits (B, outputs, I, J, K) for a label (B, 1, I, J, K) of `LabelMap.encode`."""
        group = label.long() - self.first_group
        known = (group >= 0).to(logits.dtype)
        truth = self.membership[group[:, 0].clamp(min=0)].movedim(-1, 1).to(logits.dtype)
        if self.regions:
            voxels = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1, keepdim=True)
        else:
            voxels = F.cross_entropy(logits, truth, reduction="none")[:, None]
        # a patch without an annotated voxel gives no gradient
        mean = (voxels * known).sum() / known.sum().clamp(min=1)
        loss: Tensor = self.dice_weight * self.dice(logits, truth, known) + mean
        return loss


def loss_of(plan: Plan, dice_weight: float = 1.0) -> _Loss:
    """Returns MONAI's `DiceCELoss` for classes that are annotated everywhere, else `PartialLoss`."""
    labels = LabelMap.of(plan)
    if labels.regions or labels.ignore is not None:
        return PartialLoss(plan, dice_weight)
    return DiceCELoss(**DICE_CE, lambda_dice=dice_weight)


DICE_CE: dict[str, Any] = dict(include_background=False, to_onehot_y=True, softmax=True, batch=True)
"""Options of `DiceCELoss`; Dice is over the whole batch, see `PartialLoss`."""
