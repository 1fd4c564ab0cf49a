"""Computes the losses of mask classification (arXiv 2107.06278, section 3.2; arXiv 2112.01527, sections 3.3 and 4.1).

A picture has one mask for each class that it shows. The Hungarian algorithm assigns a query to each of them; the other
queries learn "no object". Masks are compared on random points alone, of which ignored pixels do not count.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

NO_MASK = -1
"""Stands for "no class" in the table of classes, and for "no query" in an assignment."""
OVERSAMPLING = 3
"""Candidates for each point of a loss, of which the most uncertain are taken (PointRend, arXiv 1912.08193)."""
UNCERTAIN = 0.75
"""Fraction of the points that are taken so; the others are uniform."""
WEIGHTS = dict(loss_class=2.0, loss_mask=5.0, loss_dice=5.0)
"""Factors on the losses, and on their costs in the assignment (arXiv 2112.01527, section 4.1)."""


class MaskClassificationLoss(nn.Module):
    """Matches queries with the classes of pictures, and computes the losses of classes and masks.

    Args:
        num_classes: K; the logits have K + 1 classes, whose last is "no object".
        num_points: points of a mask.
        no_object_weight: weight of "no object" in the cross entropy.
        ignore_index: label that does not count.
    """

    def __init__(
        self,
        num_classes: int,
        num_points: int = 12544,
        no_object_weight: float = 0.1,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_points, self.ignore_index = num_classes, num_points, ignore_index
        self.no_object_weight = no_object_weight

    def forward(self, outputs: list[tuple[Tensor, Tensor]], labels: Tensor) -> dict[str, Tensor]:
        """Returns the losses of class, mask and Dice, each summed over the layers, times their weights.

        Args:
            outputs: for each layer the logits (B, Q, K + 1) of classes and (B, Q, h, w) of masks.
            labels: (B, H, W), classes or `ignore_index`.
        """
        shown = classes_shown(labels, self.ignore_index)
        losses = [self._layer(classes.float(), masks.float(), labels, shown) for classes, masks in outputs]
        return {
            name: weight * torch.stack(parts).sum()
            for (name, weight), parts in zip(WEIGHTS.items(), zip(*losses, strict=True), strict=True)
        }

    def _layer(self, classes: Tensor, masks: Tensor, labels: Tensor, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the losses of class, mask and Dice of a layer."""
        queries = self.match(classes, masks, labels, shown)
        matched = queries != NO_MASK
        target = torch.full(classes.shape[:2], self.num_classes, device=classes.device)
        pictures, columns = torch.nonzero(matched, as_tuple=True)
        target[pictures, queries[matched]] = shown[pictures, columns]
        # A picture without a label cannot teach that it shows nothing.
        weight = (shown != NO_MASK).any(1)[:, None] * torch.where(target == self.num_classes, self.no_object_weight, 1)
        entropy = F.cross_entropy(classes.mT, target, reduction="none")
        chosen = masks[pictures, queries[matched]][:, None]
        points = self.draw_points(chosen, labels[pictures])
        logits = sample_maps(chosen, points)[:, 0]
        found = sample_labels(labels[pictures], points)[:, 0]
        truth = (found == shown[pictures, columns][:, None]).to(logits)
        counts = (found != self.ignore_index).to(logits)
        cross, dice = mask_losses(logits, truth, counts)
        number = max(len(pictures), 1)
        return (entropy * weight).sum() / weight.sum().clamp(min=1e-6), cross.sum() / number, dice.sum() / number

    @torch.no_grad()
    def match(self, classes: Tensor, masks: Tensor, labels: Tensor, shown: Tensor) -> Tensor:
        """Returns the query of each class that a picture shows, (B, T), or `NO_MASK`.

        If a picture shows more classes than there are queries, those of the highest cost get none. The random points
        are the same for all queries of a picture.
        """
        points = random_points((len(labels), 1, self.num_points), labels.device)
        logits = sample_maps(masks, points)
        found = sample_labels(labels, points)
        truth = (found == shown[..., None]).to(logits)
        counts = (found != self.ignore_index).to(logits)
        cross, dice = pairwise_mask_losses(logits, truth, counts)
        probability = classes.softmax(-1).gather(2, shown.clamp(min=0)[:, None].expand(-1, classes.shape[1], -1))
        cost = WEIGHTS["loss_mask"] * cross + WEIGHTS["loss_dice"] * dice - WEIGHTS["loss_class"] * probability
        queries = torch.full(shown.shape, NO_MASK)
        # The assignment refuses NaN. A query with NaN costs 0, so that it is assigned and the loss is NaN, which
        # `NaNGuardHook` reports.
        for row, table, present in zip(queries, cost.nan_to_num().cpu(), shown.cpu() != NO_MASK, strict=True):
            chosen, columns = linear_sum_assignment(table[:, present])
            row[torch.from_numpy(columns)] = torch.from_numpy(chosen)  # the classes of a picture are the first columns
        return queries.to(shown.device)

    def draw_points(self, masks: Tensor, labels: Tensor) -> Tensor:
        """Draws the points of each mask (N, 1, h, w), (N, 1, P, 2): most where the mask is uncertain and labelled."""
        candidates = random_points((len(masks), 1, OVERSAMPLING * self.num_points), masks.device)
        certainty = sample_maps(masks.detach(), candidates).abs()
        ignored = sample_labels(labels, candidates) == self.ignore_index
        count = int(UNCERTAIN * self.num_points)
        nearest = certainty.masked_fill(ignored, torch.inf).topk(count, largest=False).indices
        uncertain = candidates.gather(2, nearest[..., None].expand(-1, -1, -1, 2))
        return torch.cat([uncertain, candidates[:, :, : self.num_points - count]], 2)


def classes_shown(labels: Tensor, ignore_index: int) -> Tensor:
    """Returns the sorted classes of each label map (B, H, W), (B, T), filled up by `NO_MASK`; T is at least 1."""
    rows = [row[row != ignore_index] for row in map(torch.unique, labels)]
    return nn.utils.rnn.pad_sequence([*rows, labels.new_zeros(1)], batch_first=True, padding_value=NO_MASK)[:-1]


def random_points(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draws points, (*shape, 2), as row and column from 0 to 1.

    The numbers come from torch's generator on the CPU, which `StepSeedHook` seeds from seed, step and rank: a resumed
    run draws the same points, on every device.
    """
    return torch.rand(*shape, 2).to(device)


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Returns maps (B, N, h, w) at points, (B, N, P), bilinear between the centres of pixels.

    As `F.grid_sample`, whose backward pass has no deterministic form on a GPU.

    Args:
        maps: (B, N, h, w).
        points: (B, N, P, 2), or (B, 1, P, 2) for the same points of all maps of a picture; see `random_points`.
    """
    size = torch.tensor(maps.shape[2:], device=maps.device)
    place = (points * size - 0.5).clamp(min=0).minimum(size - 1)
    low = place.long()
    high, fraction = (low + 1).minimum(size - 1), place - low
    corners = ((low, 1 - fraction), (high, fraction))
    flat, total = maps.flatten(2), torch.zeros((), device=maps.device)
    for row, row_weight in corners:
        for column, column_weight in corners:
            index = row[..., 0] * size[1] + column[..., 1]
            values = flat.gather(2, index.expand(-1, maps.shape[1], -1))
            total = total + row_weight[..., 0] * column_weight[..., 1] * values
    return total


def sample_labels(labels: Tensor, points: Tensor) -> Tensor:
    """Returns the labels (B, H, W) of the pixels that points (B, N, P, 2) lie in, (B, N, P)."""
    size = torch.tensor(labels.shape[1:], device=labels.device)
    place = (points * size).long().minimum(size - 1)
    index = place[..., 0] * size[1] + place[..., 1]
    return labels.flatten(1).gather(1, index.flatten(1)).view(index.shape)


def mask_losses(logits: Tensor, truth: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns binary cross entropy and Dice loss of masks, (N,) each, on the points (N, P) whose `counts` is 1."""
    cross = F.binary_cross_entropy_with_logits(logits, truth, counts, reduction="none").sum(-1)
    probability = logits.sigmoid() * counts
    both, either = (probability * truth).sum(-1), probability.sum(-1) + (truth * counts).sum(-1)
    return cross / counts.sum(-1).clamp(min=1), 1 - (2 * both + 1) / (either + 1)


def pairwise_mask_losses(logits: Tensor, truth: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the losses of `mask_losses` for all pairs of Q masks (B, Q, P) and T targets (B, T, P), (B, Q, T) each.

    `counts` (B, 1, P) is 1 at points that count.
    """
    truth = truth * counts
    # The cross entropy of a logit x with a target t is softplus(x) - x t.
    cross = (F.softplus(logits) * counts).sum(-1, keepdim=True) - logits @ truth.mT
    probability = logits.sigmoid() * counts
    either = probability.sum(-1, keepdim=True) + truth.sum(-1)[:, None]
    dice = 1 - (2 * probability @ truth.mT + 1) / (either + 1)
    return cross / counts.sum(-1, keepdim=True).clamp(min=1), dice
