"""Tests the mask-classification head: points, assignment, losses, masked attention, training, resume, inference."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from refusals import raises_one_line
from torch import Tensor

from vil_dense.mm.models import mask_losses
from vil_dense.mm.models.mask_head import MaskClassificationHead, pixel_logits
from vil_dense.mm.models.mask_losses import MaskClassificationLoss, classes_shown, pairwise_mask_losses
from vil_dense.mm.models.query_decoder import QueryDecoder, QueryLayer

IGNORED = 255
SMALL = dict(num_classes=4, num_queries=6, num_layers=2, num_heads=2, num_points=128, norm_cfg=dict(type="BN"))


def build_head(**options: object) -> MaskClassificationHead:
    torch.manual_seed(0)
    return MODELS.build(dict(type="MaskClassificationHead", in_channels=[8] * 4, channels=16, **{**SMALL, **options}))


def maps(batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, 8, side, side + 1) for side in (16, 8, 4, 2)]


def squares() -> Tensor:
    """Returns label maps (2, 16, 16): quarters of the classes 0 to 3 with an ignored row; class 2 alone."""
    labels = torch.full((2, 16, 16), 2)
    for number, (rows, columns) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        labels[0, rows : rows + 8, columns : columns + 8] = number
    labels[0, 4] = IGNORED
    return labels


def perfect(labels: Tensor, queries: list[int], strength: float = 30.0) -> tuple[Tensor, Tensor]:
    """Returns logits (B, 6, 5) and (B, 6, 16, 16) with class k and its mask in query `queries[k]`, else no object."""
    classes, masks = torch.zeros(len(labels), 6, 5), torch.full((len(labels), 6, *labels.shape[1:]), -strength)
    classes[..., 4] = strength
    for picture, row in enumerate(labels):
        for label in set(row.unique().tolist()) - {IGNORED}:
            query = queries[label]
            classes[picture, query, 4], classes[picture, query, label] = 0, strength
            masks[picture, query][row == label] = strength
    return classes, masks


def test_maps_at_points_are_those_of_grid_sample() -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    points = torch.cat([torch.rand(2, 1, 50, 2, dtype=torch.float64), torch.ones(2, 1, 1, 2)], 2)
    found = mask_losses.sample_maps(values, points)
    expected = F.grid_sample(
        values, 2 * points[:, 0, :, None].flip(-1) - 1, padding_mode="border", align_corners=False
    ).squeeze(3)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((x * weights).sum(), values)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)
    pixels = torch.tensor([[[[0.0, 0.0], [0.999, 1.0], [0.4, 0.3]]]])
    labels = torch.arange(35).view(1, 5, 7)
    assert mask_losses.sample_labels(labels, pixels).tolist() == [[[0, 34, 16]]]


def test_losses_of_pairs_and_their_known_values() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 40), (torch.rand(2, 4, 40) > 0.5).float()
    counts = (torch.rand(2, 1, 40) > 0.3).float()
    pairs = pairwise_mask_losses(logits, truth, counts)
    for b, q, t in itertools.product(range(2), range(3), range(4)):
        single = mask_losses.mask_losses(logits[b, q][None], truth[b, t][None], counts[b])
        torch.testing.assert_close(torch.stack([pair[b, q, t] for pair in pairs]), torch.cat(single))
    # A mask of probability 1/2 on two pixels of which one is true: ln 2, and 1 - (2 * 0.5 + 1) / (1 + 1 + 1).
    cross, dice = mask_losses.mask_losses(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2))
    torch.testing.assert_close(torch.cat([cross, dice]), torch.tensor([np.log(2), 1 / 3]).float())


def test_queries_are_assigned_to_the_classes_that_they_show() -> None:
    labels, queries = squares(), [3, 0, 5, 1]
    shown = classes_shown(labels, IGNORED)
    assert shown.tolist() == [[0, 1, 2, 3], [2, -1, -1, -1]]
    loss = MaskClassificationLoss(4, num_points=256)
    classes, masks = perfect(labels, queries)
    assert loss.match(classes, masks, labels, shown).tolist() == [[3, 0, 5, 1], [5, -1, -1, -1]]
    assert loss.match(classes, 0 * masks, labels, shown).tolist() == [[3, 0, 5, 1], [5, -1, -1, -1]], "by class alone"
    assert loss.match(0 * classes, masks, labels, shown).tolist() == [[3, 0, 5, 1], [5, -1, -1, -1]], "by mask alone"
    right = loss([(classes, masks)], labels)
    assert right["loss_class"] < 1e-6
    assert right["loss_mask"] < 0.5 and right["loss_dice"] < 0.5  # points between two pixels have a middling mask
    wrong = loss([(classes.roll(1, 1), masks)], labels)
    assert wrong["loss_class"] > 1 or wrong["loss_mask"] > 1
    twice = loss([(classes.roll(1, 1), masks)] * 2, labels)
    assert twice["loss_class"] == pytest.approx(2 * wrong["loss_class"].item())
    few = loss.match(classes[:, :2], masks[:, :2], labels, shown)
    assert sorted(few[0].tolist()) == [-1, -1, 0, 1], "two queries for four classes"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_logits_that_are_not_finite_reach_the_loss(part: int, value: float) -> None:
    """Tests that a query which diverged gives a loss that is not finite, which the NaN guard sees, and no error."""
    outputs = perfect(squares(), [0, 1, 2, 3])
    outputs[part][0, 1] = value
    losses = MaskClassificationLoss(4, num_points=64)([outputs], squares())
    assert not torch.stack([*losses.values()]).isfinite().all()


def test_ignored_pixels_and_pictures_without_labels_teach_nothing() -> None:
    labels, loss = squares(), MaskClassificationLoss(4, num_points=64)
    classes, masks = perfect(labels, [0, 1, 2, 3], strength=2.0)
    losses = []
    for change in (0.0, 9.0):
        torch.manual_seed(0)
        changed = masks.clone()
        changed[0, :, 4] += change  # only the ignored row
        # Nearest points in place of bilinear ones, which mix rows.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mask_losses, "sample_maps", lambda x, points: x.flatten(2).gather(2, pixel(points, x)))
            losses.append(loss([(classes, changed)], labels))
    for name, value in losses[0].items():
        if name != "loss_class":
            assert value > 0
        torch.testing.assert_close(losses[1][name], value)
    leaves = [x.clone().requires_grad_() for x in (classes, masks)]
    nothing = loss([(leaves[0], leaves[1])], torch.full_like(labels, IGNORED))
    sum(nothing.values()).backward()
    assert all(value == 0 for value in nothing.values()) and all(not x.grad.any() for x in leaves)


def pixel(points: Tensor, x: Tensor) -> Tensor:
    """Returns the indices of the pixels of flattened maps `x` (B, N, h, w) that points lie in, (B, N, P)."""
    size = torch.tensor(x.shape[2:])
    place = (points * size).long()
    return (place[..., 0] * size[1] + place[..., 1]).expand(-1, x.shape[1], -1)


def test_most_points_lie_where_a_mask_is_uncertain_and_labelled() -> None:
    torch.manual_seed(0)
    masks, labels = torch.full((1, 1, 8, 8), 9.0), torch.zeros(1, 8, 8, dtype=torch.long)
    masks[..., :5] = 0.0  # uncertain on the left, of which the first rows are ignored
    labels[:, :2] = IGNORED
    points = MaskClassificationLoss(4, num_points=40).draw_points(masks, labels)
    assert points.shape == (1, 1, 40, 2)
    inside = (points[..., 0] > 2 / 8) & (points[..., 1] < 5 / 8)
    assert 0.75 * 40 <= inside.sum() < 40


def test_a_layer_attends_to_the_masks_of_the_layer_before() -> None:
    torch.manual_seed(0)
    decoder = QueryDecoder(16, num_classes=3, num_queries=2, num_layers=1, num_heads=2, num_maps=1)
    pixels, values = torch.zeros(1, 16, 4, 8), torch.randn(1, 16, 2, 4)
    pixels[:, 0, :, :4], pixels[:, 0, :, 4:] = 90, -90
    last = decoder.embed_mask[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.eye(16)[0]  # the masks are the first channel: the left half
    other = values.clone()
    other[..., 3] += 1
    found = [decoder(pixels, [x])[-1][0] for x in (values, other)]
    torch.testing.assert_close(*found)
    last.bias.data = torch.zeros(16)
    assert (decoder(pixels, [other])[-1][0] - decoder(pixels, [values])[-1][0]).abs().max() > 1e-3


def test_a_query_reads_the_pixels_of_its_mask() -> None:
    torch.manual_seed(0)
    layer = QueryLayer(16, 2).double()
    x, values = torch.randn(1, 3, 16, dtype=torch.float64), torch.randn(1, 10, 16, dtype=torch.float64)
    mask = torch.full((1, 3, 10), -50.0)
    mask[:, :, :4] = 50
    other = values.clone()
    other[:, 4:] += 1
    found = [layer(x, torch.zeros(3, 16).double(), v, v, F.logsigmoid(mask)) for v in (values, other)]
    torch.testing.assert_close(*found)
    free = [layer(x, torch.zeros(3, 16).double(), v, v, torch.zeros(1, 3, 10)) for v in (values, other)]
    assert (free[0] - free[1]).abs().max() > 1e-3
    outside = layer(x, torch.zeros(3, 16).double(), values, values, F.logsigmoid(mask * 0 - 90))
    torch.testing.assert_close(outside, free[0])  # a mask without pixels hides nothing


def test_logits_of_any_size_and_their_probabilities() -> None:
    head = build_head().eval()
    with torch.no_grad():
        for batch in (1, 3):
            logits = head(maps(batch))
            assert logits.shape == (batch, 4, 16, 17) and torch.isfinite(logits).all()
    assert len(head.decode(maps())) == 3  # the initial queries and two layers
    classes, masks = torch.randn(1, 6, 5), torch.randn(1, 6, 2, 3)
    scores = (classes.softmax(-1)[0, :, :4, None, None] * masks.sigmoid()[0, :, None]).sum(0)
    torch.testing.assert_close(pixel_logits(classes, masks)[0].softmax(0), scores / scores.sum(0))


def samples(labels: Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=row[None])) for row in labels]


def test_every_parameter_learns_and_points_are_those_of_the_seed() -> None:
    head, inputs, found = build_head().train(), maps(), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(head.loss(inputs, samples(squares()), None))
    losses = [sum(value for name, value in losses.items() if "loss" in name) for losses in found]
    assert losses[0] == losses[1] and losses[0] != losses[2]
    losses[0].backward()
    assert not [name for name, x in head.named_parameters() if x.grad is None or not x.grad.any()]


def test_numbers_that_cannot_be() -> None:
    for options, named in (
        (dict(in_channels=[8], in_index=[0]), ("two feature maps", "[8]")),
        (dict(channels=18), ("num_heads=2", "18")),
        (dict(num_queries=0), ("num_queries", "0")),
    ):
        with raises_one_line(ValueError, *named):
            MODELS.build(
                dict({"in_channels": [8] * 4, "channels": 16, **SMALL, **options}, type="MaskClassificationHead")
            )


def test_a_small_segmentor_learns_coloured_shapes() -> None:
    """Trains on rectangles of three colours on a ground; the trivial answer, ground everywhere, has mIoU below 25 %."""
    torch.manual_seed(0)
    backbone = dict(type="HierViL", dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), sequence="dwconv")
    head = dict(type="MaskClassificationHead", in_channels=[16] * 4, channels=32, **SMALL)
    model = MODELS.build(dict(type="EncoderDecoder", backbone=backbone, decode_head=head))
    colours = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])

    def draw(number: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.zeros(number, 64, 64, dtype=torch.long)
        for row in labels:
            for label in (1, 2, 3):
                top, left = torch.randint(0, 40, (2,), generator=generator).tolist()
                row[top : top + 24, left : left + 24] = label
        noise = 0.2 * torch.randn(number, 3, 64, 64, generator=generator)
        return colours[labels].movedim(3, 1) + noise, labels

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    curve = []
    for step in range(60):
        images, labels = draw(4, step)
        losses = model.train().loss(images, samples(labels))
        loss = sum(value for name, value in losses.items() if "loss" in name)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        curve.append(loss.item())
    images, labels = draw(8, 10**6)
    with torch.no_grad():
        logits = model.eval().encode_decode(images, [dict(img_shape=images.shape[2:])])
    found = logits.argmax(1)
    ious = [float(((found == k) & (labels == k)).sum() / ((found == k) | (labels == k)).sum()) for k in range(4)]
    assert sum(curve[-5:]) < 0.7 * sum(curve[:5]), curve
    assert sum(ious) / 4 > 0.5, ious
