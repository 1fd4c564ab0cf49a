"""Computes losses that mmsegmentation lacks, or cannot compute for every label or on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.losses import FocalLoss
from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss
from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor, nn

from vil_dense.ops.distance import boundary_cost


@MODELS.register_module()
class WeightedCrossEntropyLoss(nn.Module):
    """Computes the cross entropy with a weight for each class, as a weighted mean over the labelled pixels.

    mmsegmentation's `CrossEntropyLoss` looks up the weight of the ignored label, too, and fails. `ViLRunner` replaces
    one with a `class_weight` by this class; the mean is over labelled pixels whatever its `avg_non_ignore` was.

    Args:
        class_weight: a number for each class, or a file with them.
        loss_weight: a factor on the loss.
        loss_name: its name in the log, beginning with `loss_`.
    """

    def __init__(
        self, class_weight: list[float] | str, loss_weight: float = 1.0, loss_name: str = "loss_ce", **unused: Any
    ) -> None:
        super().__init__()
        self.class_weight = get_class_weight(class_weight)
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction_override: str | None = None,
        **unused: Any,
    ) -> Tensor:
        """Returns the loss of logits (B, C, H, W) and labels (B, H, W), of each pixel with `reduction_override="none"`.

        `weight` (B, H, W) is that of a pixel sampler, which does not change the divisor.
        """
        weights = logits.new_tensor(self.class_weight)
        losses = F.cross_entropy(logits, label, weights, reduction="none", ignore_index=ignore_index)
        if weight is not None:
            losses = losses * weight
        if reduction_override != "none":
            divisor = weights[label[label != ignore_index]].sum()
            losses = losses.sum() / divisor.clamp(min=torch.finfo(divisor.dtype).eps)
        return self.loss_weight * losses


@MODELS.register_module()
class PortableFocalLoss(FocalLoss):
    """Computes mmsegmentation's `FocalLoss` on CPUs and GPUs; its own path for CPUs takes one class in place of all.

    `ViLRunner` replaces `FocalLoss` by this class where there is no GPU.
    """

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: int | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
        **unused: Any,
    ) -> Tensor:
        """Returns the loss of logits (B, C, H, W) and labels (B, H, W).

        A `weight` of pixels (B, H, W) is flattened. Without reduction the loss is (B, C, H, W).
        """
        classes, reduction = pred.shape[1], reduction_override or self.reduction
        labels = target.flatten()
        valid = labels != ignore_index
        loss = self.loss_weight * py_sigmoid_focal_loss(
            pred.movedim(1, -1).reshape(-1, classes),
            F.one_hot(labels.where(valid, 0), classes),
            weight=None if weight is None else weight.flatten(),
            gamma=self.gamma,
            alpha=self.alpha,
            class_weight=self.class_weight,
            valid_mask=valid.view(-1, 1),
            reduction=reduction,
            avg_factor=avg_factor,
        )
        return loss.view(*target.shape, classes).movedim(-1, 1) if reduction == "none" else loss


@MODELS.register_module()
class KervadecBoundaryLoss(nn.Module):
    """Computes the boundary loss of Kervadec et al. (2021), for use beside a cross entropy.

    The probability of each class costs its signed distance to the boundary of that class, so that a pixel costs the
    more, the farther it is on the wrong side. It is the mean over labelled pixels of the sum over classes, in [-1, 1],
    and -1 at best far from all boundaries. mmsegmentation's `BoundaryLoss` is another one, for the edges that PIDNet
    predicts.

    Args:
        max_distance_px: longer distances count as this one, which has the value 1.
        loss_weight: a factor on the loss.
        loss_name: its name in the log, beginning with `loss_`.
    """

    def __init__(
        self, max_distance_px: float = 16.0, loss_weight: float = 1.0, loss_name: str = "loss_boundary"
    ) -> None:
        super().__init__()
        if not 1 <= max_distance_px < float("inf"):
            raise ValueError(f"max_distance_px is a number of pixels from 1 on, got {max_distance_px}")
        self.max_distance_px, self.loss_weight, self.loss_name = float(max_distance_px), loss_weight, loss_name

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction_override: str | None = None,
        **unused: Any,
    ) -> Tensor:
        """Returns the loss of logits (B, C, H, W) and labels (B, H, W), of each pixel with `reduction_override="none"`.

        One logit is that of class 1 against class 0 (mmseg's `out_channels=1`). `weight` (B, H, W) is that of a pixel
        sampler, which does not change the divisor.
        """
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        known, probabilities = label != ignore_index, logits.float().softmax(1)
        # Classes that no picture of the batch has are at the largest distance everywhere, which costs 1.
        losses = known.to(probabilities.dtype)
        for index in label[known].unique().tolist():
            own = probabilities[:, index]
            cost = boundary_cost(own, label == index, known, self.max_distance_px, (1.0, 1.0))
            losses = losses + cost - own * known
        if weight is not None:
            losses = losses * weight
        if reduction_override != "none":
            losses = losses.sum() / known.sum().clamp(min=1)
        return self.loss_weight * losses
