"""Computes losses of classes or regions and of their boundaries, which leave out voxels that nobody annotated."""

from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, MaskedDiceLoss
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vil_dense.medical.data.plan_schema import Plan, read_plan
from vil_dense.medical.label_map import LabelMap
from vil_dense.ops.distance import boundary_cost


class AnnotatedLoss(_Loss):
    """Holds the labels of a plan, for losses over annotated voxels.

    Args:
        plan: mapping or path, see `plan_schema`.
    """

    membership: Tensor

    def __init__(self, plan: Plan | str) -> None:
        super().__init__()
        labels = LabelMap.of(read_plan(plan))
        self.first_group, self.regions = labels.first_group, labels.regions
        self.register_buffer("membership", torch.from_numpy(labels.membership), persistent=False)

    def truth(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which voxels are annotated, (B, I, J, K) bool, and their outputs, (B, outputs, I, J, K) bool.

        Args:
            label: (B, 1, I, J, K), see `LabelMap.encode`.
        """
        group = label[:, 0].long() - self.first_group
        return group >= 0, self.membership[group.clamp(min=0)].movedim(-1, 1)


class PartialLoss(AnnotatedLoss):
    """Adds Dice and cross entropy of classes (softmax), or binary cross entropy of regions (sigmoid).

    Both are over annotated voxels alone, and Dice is over the whole batch, as a class that one patch lacks would give
    that patch no gradient but noise.

    Args:
        plan: mapping or path, see `plan_schema`.
        dice_weight: of the Dice loss beside cross entropy, which has 1.
    """

    def __init__(self, plan: Plan | str, dice_weight: float = 1.0) -> None:
        super().__init__(plan)
        self.dice_weight = dice_weight
        self.dice = MaskedDiceLoss(
            include_background=self.regions, sigmoid=self.regions, softmax=not self.regions, batch=True
        )

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Returns the loss of logits (B, outputs, I, J, K) for a label (B, 1, I, J, K) of `LabelMap.encode`."""
        annotated, members = self.truth(label)
        logits = logits.float()  # half precision counts voxels to three digits
        known, truth = annotated[:, None].float(), members.float()
        if self.regions:
            voxels = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1, keepdim=True)
        else:
            voxels = F.cross_entropy(logits, truth, reduction="none")[:, None]
        # a patch without an annotated voxel gives no gradient
        mean = (voxels * known).sum() / known.sum().clamp(min=1)
        loss: Tensor = self.dice_weight * self.dice(logits, truth, known) + mean
        return loss


class BoundaryLoss(AnnotatedLoss):
    """Computes the boundary loss of Kervadec et al. (2021) with distances in mm, for use beside a loss of regions.

    The probability of each output costs its signed distance to the boundary of that class or region, in units of
    `REACH` times the largest spacing, at which distances end. It is the mean over annotated voxels, of classes the sum
    over all and of regions their mean, in [-1, 1].

    Args:
        plan: mapping or path, see `plan_schema`; its spacing is that of the logits.
    """

    def __init__(self, plan: Plan | str) -> None:
        super().__init__(plan)
        self.spacing_mm = tuple(read_plan(plan)["spacing_mm"])

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Returns the loss of logits (B, outputs, I, J, K) for a label (B, 1, I, J, K) of `LabelMap.encode`."""
        known, members = self.truth(label)
        logits = logits.float()
        probabilities = logits.sigmoid() if self.regions else logits.softmax(1)
        reach = REACH * max(self.spacing_mm)
        costs = [
            boundary_cost(own, inside, known, reach, self.spacing_mm)
            for own, inside in zip(probabilities.unbind(1), members.unbind(1), strict=True)
        ]
        total = torch.stack([cost.sum() for cost in costs]).sum() / known.sum().clamp(min=1)
        return total / len(costs) if self.regions else total


def loss_of(plan: Plan, dice_weight: float = 1.0) -> _Loss:
    """Returns MONAI's `DiceCELoss` for classes that are annotated everywhere, else `PartialLoss`."""
    labels = LabelMap.of(plan)
    if labels.regions or labels.ignore is not None:
        return PartialLoss(plan, dice_weight)
    return DiceCELoss(**DICE_CE, lambda_dice=dice_weight)


REACH = 8
"""Distance at which `BoundaryLoss` ends, in voxels of the largest spacing."""

DICE_CE: dict[str, Any] = dict(include_background=False, to_onehot_y=True, softmax=True, batch=True)
"""Options of `DiceCELoss`; Dice is over the whole batch, see `PartialLoss`."""
