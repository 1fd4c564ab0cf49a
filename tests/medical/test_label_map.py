"""Tests labels as they come: gaps, merged values, overlapping regions, voxels without annotation; and their losses."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceCELoss
from refusals import raises_one_line
from scipy.ndimage import distance_transform_edt
from volume_plans import small_plan

from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.inference.report import describe_mask
from vil_dense.medical.label_map import LabelMap, chosen_labels, written_labels
from vil_dense.medical.losses import DICE_CE, REACH, BoundaryLoss, PartialLoss
from vil_dense.medical.metrics import score_case
from vil_dense.mm.volumes import VolumeSegmentor

TUMOUR: dict[str, Any] = dict(
    labels=dict(background=0, whole=[1, 2, 4], core=[2, 4], enhancing=4),
    class_order=["background", "whole", "core", "enhancing"],
    regions_class_order=[1, 2, 4],
)


def plan(**changes: Any) -> dict[str, Any]:
    return dict(read_plan(small_plan(**changes)))


def perfect(known: LabelMap, label: np.ndarray) -> torch.Tensor:
    """Returns logits of a network that knows the truth, (outputs, I, J, K)."""
    groups = known.encode(label).astype(int) - known.first_group
    return torch.from_numpy(known.membership[groups.clip(min=0)]).movedim(-1, 0).float() * 20 - 10


def spheres(ignored: int | None = None) -> np.ndarray:
    """Returns nested spheres with the values of `TUMOUR`."""
    distance = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0)
    label = np.select([distance < 3, distance < 5, distance < 8], [4, 2, 1], 0).astype(np.uint8)
    if ignored is not None:
        label[:, :, 12:] = ignored
    return label


@pytest.mark.parametrize("ignored", [None, 255])
def test_a_perfect_network_gives_dice_1_in_each_region_and_the_values_of_the_files(ignored: int | None) -> None:
    known = LabelMap.of(plan(**TUMOUR, ignore_label=ignored))
    label = spheres(ignored)
    mask = known.mask(perfect(known, label))
    assert known.outputs == ["whole", "core", "enhancing"] and mask.dtype == np.uint8
    annotated = label != ignored
    np.testing.assert_array_equal(mask[annotated], label[annotated])
    options: dict[str, Any] = dict(classes=known.structures, spacing_mm=(1.0, 1.0, 1.0), ignore=ignored)
    assert [score.dice for score in score_case("a", mask, label, **options)] == [1.0] * 3
    wrong = np.where(annotated, mask, 4)  # what is predicted where nobody annotated changes no score
    assert score_case("a", wrong, label, **options) == score_case("a", mask, label, **options)


def test_the_report_measures_whole_regions() -> None:
    class Grid:
        affine = np.eye(4)

    mask = spheres()
    rows = describe_mask(mask, written_labels(plan(**TUMOUR)), Grid())
    assert [(row["label"], row["voxels"]) for row in rows] == [
        ("1 2 4", (mask > 0).sum()),
        ("2 4", (mask > 1).sum()),
        (4, (mask == 4).sum()),
    ]


values = st.lists(st.integers(1, 65535), min_size=1, max_size=6, unique=True)


@given(values, st.randoms())
def test_nested_regions_restore_the_labels(inner: list[int], random: Any) -> None:
    """Tests that regions inside each other, of any values, write the label that they were made of."""
    names = [f"r{n}" for n in range(len(inner))]
    labels: dict[str, Any] = dict(background=0) | {name: inner[n:] for n, name in enumerate(names)}
    known = LabelMap.of(plan(labels=labels, class_order=[*labels], regions_class_order=inner))
    label = np.array(random.choices([0, *inner], k=27), np.uint16).reshape(3, 3, 3)
    np.testing.assert_array_equal(known.mask(perfect(known, label)), label)


@given(values)
def test_classes_with_gaps_are_restored_in_the_order_that_was_given(found: list[int]) -> None:
    labels = dict(background=0) | {f"c{value}": value for value in found}
    made = plan(**chosen_labels({}, dict(labels=labels)))
    known = LabelMap.of(made)
    assert list(made["labels"]) == [*labels] == known.outputs
    label = np.array([0, *found], np.uint16).reshape(-1, 1, 1)
    assert known.encode(label).ravel().tolist() == list(range(len(labels)))
    np.testing.assert_array_equal(known.mask(perfect(known, label)), label)


def test_merged_values_are_written_as_the_first() -> None:
    known = LabelMap.of(plan(labels=dict(background=[0, 9], liver=[7, 3], spleen=2)))
    label = np.array([0, 9, 7, 3, 2], np.uint8).reshape(-1, 1, 1)
    assert known.mask(perfect(known, label)).ravel().tolist() == [0, 0, 7, 7, 2]
    assert known.merge(label).ravel().tolist() == [0, 0, 7, 7, 2]


def test_nnunets_ignore_is_taken_from_the_labels() -> None:
    made = chosen_labels(dict(labels=dict(background=0, a=1, ignore=2)), {})
    assert made == dict(labels=dict(background=0, a=1), ignore_label=2)
    assert chosen_labels(dict(ignore_label=3), dict(labels=dict(background=0, a=1), ignore_label=2)) == dict(
        labels=dict(background=0, a=1), ignore_label=3
    )


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (dict(labels=dict(background=0, a=[1, 2], b=2)), ("a and b", "2", "regions_class_order")),
        (dict(labels=dict(a=1, b=2)), ("'a': 1", "background")),
        (dict(labels=dict(background=0, a=0.5)), ("a ", "0.5", "65535")),
        (dict(labels=dict(background=0, a=1), ignore_label=1), ("ignore_label", "1")),
        (dict(labels=dict(background=0, a=1), class_order=["a", "background"]), ("class_order", "background, a")),
        ({**TUMOUR, "class_order": None}, ("class_order",)),
        ({**TUMOUR, "regions_class_order": [1, 2]}, ("whole, core, enhancing", "[1, 2]")),
        ({**TUMOUR, "regions_class_order": [1, 1, 4]}, ("whole", "(1, 2, 4)")),
        ({**TUMOUR, "labels": dict(background=0, whole=[1, 2, 4], core=[2, 4], enhancing=[2, 1])}, ("enhancing", "4")),
    ],
)
def test_refuses_what_cannot_be_written_back(labels: dict, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        plan(**labels)


def test_ignored_voxels_change_no_loss_and_get_no_gradient() -> None:
    torch.manual_seed(0)
    for labels in (TUMOUR, dict(labels=dict(background=0, a=[1, 2], b=4))):
        made = plan(**labels, ignore_label=255)
        known, loss = LabelMap.of(made), PartialLoss(made)
        label = torch.from_numpy(known.encode(spheres(255)))[None, None].float()
        logits = torch.randn(1, len(known.outputs), 20, 20, 20, requires_grad=True)
        loss(logits, label).backward()
        assert logits.grad is not None and not logits.grad[..., 12:].any() and logits.grad[..., :12].any()
        nothing = loss(logits, torch.zeros_like(label))
        assert torch.isfinite(nothing)


def test_half_precision_does_not_round_the_number_of_voxels() -> None:
    """Checks 6,561 annotated voxels, which bfloat16 rounds to 6,560 or 6,592."""
    for labels in (TUMOUR, dict(labels=dict(background=0, a=1, b=2))):
        made = plan(**labels, ignore_label=255)
        outputs = len(LabelMap.of(made).outputs)
        label = torch.randint(1, 3, (1, 1, 81, 81, 1), generator=torch.Generator().manual_seed(0)).float()
        logits = torch.randn(1, outputs, 81, 81, 1, generator=torch.Generator().manual_seed(1)).bfloat16()
        torch.testing.assert_close(
            PartialLoss(made)(logits, label), PartialLoss(made)(logits.float(), label), rtol=0, atol=0
        )


def test_without_ignored_voxels_it_is_monais_loss() -> None:
    made = plan(labels=dict(background=0, a=1, b=2), ignore_label=3)
    label = torch.randint(0, 3, (2, 1, 6, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    logits = torch.randn(2, 3, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(PartialLoss(made)(logits, label + 1), DiceCELoss(**DICE_CE)(logits, label))


SPACING = (2.0, 0.5, 1.0)
CLASSES: dict[str, Any] = dict(labels=dict(background=0, a=[1, 2], b=4))


@pytest.mark.parametrize("ignore", [None, 255])
@pytest.mark.parametrize("labels", [CLASSES, TUMOUR], ids=["classes", "regions"])
def test_it_is_its_definition(labels: dict[str, Any], ignore: int | None) -> None:
    made = plan(**labels, spacing_mm=SPACING) | ({} if ignore is None else dict(ignore_label=ignore))
    known, rng = LabelMap.of(made), np.random.default_rng(0)
    volumes = rng.choice([0, 1, 2, 4], (2, 8, 8, 8), p=[0.6, 0.2, 0.1, 0.1])
    volumes[1] = 0  # neither structure
    if ignore is not None:
        volumes[0, 3:5] = 1  # so that unlabelled places would be nearer than labelled ones
        volumes[:, 5:] = ignore
    label = torch.from_numpy(known.encode(volumes).astype(np.int64))[:, None]
    logits = torch.randn(2, len(known.outputs), 8, 8, 8, requires_grad=True)
    probabilities = (logits.sigmoid() if known.regions else logits.softmax(1)).detach().numpy()
    annotated, reach, total = volumes != ignore, REACH * max(SPACING), 0.0
    for volume, labelled, p in zip(volumes, annotated, probabilities, strict=True):
        for own, name in zip(p, known.outputs, strict=True):
            inside = np.isin(volume, known.values[name])
            inner, outer = (
                distance_transform_edt(~part, sampling=SPACING) if part.any() else np.full(part.shape, 1e3)
                for part in (inside & labelled, ~inside & labelled)
            )
            distance = np.where(inside, -outer, inner).clip(-reach, reach) / reach
            total += (own * distance)[labelled].sum()
    loss = BoundaryLoss(made)(logits, label)
    expected = total / annotated.sum() / (len(known.outputs) if known.regions else 1)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    if ignore is not None:
        assert not logits.grad[:, :, 5:].any() and logits.grad[:, :, :5].any()
        assert BoundaryLoss(made)(logits, torch.zeros_like(label)) == 0, "no annotated voxel"


def test_it_is_one_option_of_a_segmentor() -> None:
    network = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1))
    image, label = torch.randn(1, 1, 8, 8, 8), torch.randint(0, 3, (1, 1, 8, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = VolumeSegmentor(plan(**CLASSES), network)
    model = VolumeSegmentor(plan(**CLASSES), network, boundary_weight=0.5)
    assert model.load_state_dict(plain.state_dict()).missing_keys == [], "it has no weights of its own"
    found, alone = model(image, label, mode="loss"), plain(image, label, mode="loss")
    assert found.keys() == {"loss_regions", "loss_boundary"} and alone.keys() == {"loss"}
    torch.testing.assert_close(found["loss_regions"], alone["loss"])
    logits = model.network(image)
    logits = logits[0] if isinstance(logits, list) else logits
    torch.testing.assert_close(found["loss_boundary"], 0.5 * BoundaryLoss(plan(**CLASSES))(logits, label))
