"""Maps the label values of files to the outputs of a network, and its scores to the values of masks.

The keys of a plan are those of nnU-Net's `dataset.json`. `labels` gives each name a value, or a list of values.

Classes, without `regions_class_order`, exclude each other: the network has one output for each, the background first,
and softmax. Several values of one class are merged, and a mask has the first of them.

Regions, with `regions_class_order`, may overlap: the network has one output for each but the background, and sigmoid.
A region is the union of its values. In a mask each region in turn writes its value of `regions_class_order` over those
before it.

Values may have gaps; the network sees 0, 1, ..., and a mask has the values of the files. `ignore_label` is the value of
voxels that nobody annotated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST = 65535
"""Largest value of a label, that of uint16."""


@dataclass(frozen=True)
class LabelMap:
    """Stores the label values of a plan.

    Args:
        values: of each name in files; the background, which has 0, is first.
        written: value in masks of each output of the network.
        regions: whether outputs are regions, which may overlap, else classes.
        ignore: value of voxels without annotation.
    """

    values: dict[str, tuple[int, ...]]
    written: tuple[int, ...]
    regions: bool = False
    ignore: int | None = None

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> "LabelMap":
        """Returns the map of a plan that was checked."""
        values = {name: values_of(value) for name, value in in_order(plan).items()}
        order = plan.get("regions_class_order")
        written = [own[0] for own in values.values()] if order is None else order
        return cls(values, tuple(written), order is not None, plan.get("ignore_label"))

    @property
    def outputs(self) -> list[str]:
        """Lists the names of the outputs of the network."""
        return list(self.values)[int(self.regions) :]

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """Returns the values of each name but the background, in files and in masks."""
        return structures(self.values)

    @property
    def file_values(self) -> list[int]:
        """Lists the values that a label file may have."""
        known = {value for own in self.values.values() for value in own}
        return sorted(known if self.ignore is None else known | {self.ignore})

    @property
    def plain(self) -> bool:
        """Returns whether the values of files are the outputs 0, 1, ... of the network."""
        return not self.regions and self.ignore is None and self.groups == [(n,) for n in range(len(self.values))]

    @property
    def mask_dtype(self) -> np.dtype:
        """Returns the type of a mask, uint8 or uint16."""
        return np.dtype(np.min_scalar_type(max(self.written)))

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Lists the values that training tells apart: those of each class, or each value of the regions."""
        background, *others = self.values.values()
        if not self.regions:
            return [background, *others]
        return [background, *((value,) for value in sorted({value for own in others for value in own}))]

    @property
    def first_group(self) -> int:
        """Returns the index of the first group in encoded labels: 1 where 0 means not annotated, else 0."""
        return int(self.ignore is not None)

    @cached_property
    def membership(self) -> np.ndarray:
        """Returns the outputs to which each group belongs, (groups, outputs) bool."""
        return np.array([[set(group) <= set(self.values[name]) for name in self.outputs] for group in self.groups])

    def encode(self, label: np.ndarray) -> np.ndarray:
        """Returns the index of each voxel's group, uint8 or uint16; with `ignore` from 1 on, and 0 where ignored.

        0 is then also what padding and rotation add, so that loss and sampling leave it out as well.
        """
        groups, first = self.groups, self.first_group
        table = np.zeros(max(self.file_values) + 1, np.min_scalar_type(len(groups) + first - 1))
        for index, group in enumerate(groups, first):
            table[list(group)] = index
        return table[label]

    def merge(self, label: np.ndarray) -> np.ndarray:
        """Returns a label with the values that masks of classes have; merged values become the first of their class."""
        table = np.arange(max(self.file_values) + 1)
        for own in self.values.values():
            table[list(own)] = own[0]
        return table.astype(label.dtype)[label]

    def mask(self, scores: Tensor | np.ndarray, threshold: float = 0.0) -> np.ndarray:
        """Returns the mask of scores.

        Args:
            scores: (outputs, ...), logits or probabilities.
            threshold: above which a voxel belongs to a region.
        """
        written = np.array(self.written, self.mask_dtype)
        if not self.regions:
            best = scores.argmax(0)
            return written[best.cpu().numpy() if isinstance(best, Tensor) else best]
        mask = np.zeros(scores.shape[1:], self.mask_dtype)
        for value, own in zip(written, scores, strict=True):
            inside = own > threshold
            mask[inside.cpu().numpy() if isinstance(inside, Tensor) else inside] = value
        return mask

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns the probabilities of logits (outputs, ...)."""
        return torch.sigmoid(logits) if self.regions else logits.softmax(0)


def values_of(value: Any) -> tuple[int, ...]:
    """Returns the one or several values of a label."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def written_labels(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the value in masks of each class of a plan by name, or the values of each region."""
    known = LabelMap.of(plan)
    if known.regions:
        return {name: own[0] if len(own) == 1 else list(own) for name, own in known.values.items()}
    return dict(zip(known.values, known.written, strict=True))


def structures(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the labels without the background, in their order."""
    return {name: value for name, value in labels.items() if 0 not in values_of(value)}


def in_order(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the labels of a plan in the order of its `class_order`, or else of their first values."""
    labels = plan["labels"]
    if plan.get("class_order") is not None:
        return {name: labels[name] for name in plan["class_order"]}
    return dict(sorted(labels.items(), key=lambda item: _background_first(item[1])))


def chosen_labels(given: Mapping[str, Any], listed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a plan on labels, from given ones and those of the data set; none if neither names classes.

    `class_order` is added where the order of the names cannot be told from their values.

    Args:
        given: `labels`, `class_order`, `regions_class_order` and `ignore_label`, if any. A label named ignore is the
            latter, as in nnU-Net.
        listed: the same of the data set, which given labels replace.
    """
    merged = dict(given) if given.get("labels") else {**listed, **given}
    ignored = given.get("ignore_label", listed.get("ignore_label"))
    if not merged.get("labels"):
        if orders := [key for key in ("class_order", "regions_class_order") if given.get(key)]:
            raise ValueError(
                f"{orders[0]} orders labels, and neither the data set nor --set labels.NAME=VALUE names any"
            )
        return {} if ignored is None else dict(ignore_label=ignored)
    labels = dict(merged["labels"])
    ignored = labels.pop("ignore", ignored)
    background = [name for name, value in labels.items() if 0 in values_of(value)]
    order = list(merged.get("class_order") or [*background, *(name for name in labels if name not in background)])
    found: dict[str, Any] = dict(labels=labels, class_order=order)
    if merged.get("regions_class_order") is not None:
        found["regions_class_order"] = merged["regions_class_order"]
    if ignored is not None and (given.get("ignore_label") is not None or not _has(labels, ignored)):
        found["ignore_label"] = ignored
    check_labels(found)
    if "regions_class_order" not in found and order == list(in_order(dict(labels=labels))):
        del found["class_order"]
    return found


def _has(labels: Mapping[str, Any], value: int) -> bool:
    return any(value in values_of(own) for own in labels.values())


def _background_first(value: Any) -> tuple[bool, int]:
    values = values_of(value)
    return 0 not in values, values[0]


def check_labels(plan: Mapping[str, Any]) -> None:
    """Checks `labels`, and the other keys of a plan that say what they mean.

    Raises:
        ValueError: a value is not allowed; says what is.
    """
    labels, order, ignore = (plan.get(key) for key in ("labels", "regions_class_order", "ignore_label"))
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError(f"a plan's labels are values by name, of the background and of classes, got {labels!r}")
    values = {name: values_of(value) for name, value in labels.items()}
    for name, own in values.items():
        if not own or not all(_is_value(value) for value in own):
            raise ValueError(f"the label {name} has a value from 0 to {MOST}, or a list of them, got {labels[name]!r}")
    if sum(0 in own for own in values.values()) != 1:
        raise ValueError(f"one of a plan's labels has the value 0, the background, got {dict(labels)}")
    check_order(plan)
    if ignore is not None and (not _is_value(ignore) or ignore == 0 or _has(labels, ignore)):
        raise ValueError(f"a plan's ignore_label is a value from 1 to {MOST} that no class has, got {ignore!r}")
    if order is None:
        owners: dict[int, str] = {}
        for name, own in values.items():
            for value in own:
                if owners.setdefault(value, name) != name:
                    raise ValueError(
                        f"the labels {owners[value]} and {name} share the value {value}: regions that overlap need "
                        "regions_class_order, the value that each region has in masks, in the order of the labels"
                    )
    else:
        _check_regions(plan, values, order)


def check_order(plan: Mapping[str, Any]) -> None:
    """Checks that `class_order`, if any, names all labels, the background first; raises ValueError."""
    order = plan.get("class_order")
    if order is None:
        return
    labels = plan["labels"]
    if sorted(order) != sorted(labels) or 0 not in values_of(labels[order[0]]):
        raise ValueError(
            f"a plan's class_order names all labels, the background first: {', '.join(labels)}; got {order}"
        )


def _check_regions(plan: Mapping[str, Any], values: Mapping[str, tuple[int, ...]], order: Any) -> None:
    """Checks that each voxel can be written as a value of the same regions; raises ValueError."""
    if plan.get("class_order") is None:
        raise ValueError(
            "a plan with regions_class_order needs class_order, the names of the labels in the same order after the "
            "background: configs are stored with sorted names"
        )
    background, *names = plan["class_order"]
    if not isinstance(order, (list, tuple)) or len(order) != len(names) or not all(_is_value(value) for value in order):
        raise ValueError(f"regions_class_order has a value for each of {', '.join(names)}, got {order!r}")
    for name, value in zip(names, order, strict=True):
        if value not in values[name] or list(order).count(value) > 1:
            raise ValueError(
                f"regions_class_order writes {name} as {value}: each region has one of its values "
                f"({', '.join(map(str, values[name]))}) and no other region's"
            )
        if common := {*values[name]} & {*values[background]}:
            raise ValueError(f"the region {name} has a value of the background, {common.pop()}")
    for value in sorted({value for name in names for value in values[name]}):
        own = [name for name in names if value in values[name]]
        became = order[names.index(own[-1])]
        if own != [name for name in names if became in values[name]]:
            raise ValueError(
                f"regions_class_order would write the label {value}, which is {' and '.join(own)}, as {became}, which "
                f"is not: larger regions are before those inside them, and a part that regions share is a region, too"
            )


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def inside(label: np.ndarray, values: int | Sequence[int]) -> np.ndarray:
    """Returns where a label or mask has one of `values`, (I, J, K) bool."""
    several = values_of(values)
    return label == several[0] if len(several) == 1 else np.isin(label, several)
