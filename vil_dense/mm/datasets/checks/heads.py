"""Checks that the heads of a segmentor fit its data set and its metrics."""

from collections.abc import Sequence
from inspect import signature

from mmseg.datasets import BaseSegDataset
from mmseg.models import CrossEntropyLoss
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

from vil_dense.mm.datasets.label_ids import IGNORED


def check_heads(
    network: nn.Module, dataset: BaseSegDataset, split: str, metrics: Sequence[object]
) -> list[BaseDecodeHead]:
    """Checks the heads of a segmentor and returns them, the decode head first.

    Raises:
        ValueError: another number of classes than the data set has; losses, padding and metrics that leave out
            different ids; a loss that mmsegmentation cannot compute.
    """
    heads = [head for name in ("decode_head", "auxiliary_head") for head in _heads(getattr(network, name, None))]
    names = dataset.metainfo.get("classes") or ()
    for head in heads:
        if names and head.num_classes != len(names):
            raise ValueError(
                f"a head of the model has num_classes={head.num_classes} and the {split} data, "
                f"{type(dataset).__name__}, have {len(names)} classes: "
                "set num_classes of decode_head and auxiliary_head"
            )
    _check_ignored(network, heads, metrics)
    _check_losses(heads)
    return heads


def _check_ignored(network: nn.Module, heads: Sequence[BaseDecodeHead], metrics: Sequence[object]) -> None:
    """Checks that losses, padding and metrics leave out the same id."""
    padding = getattr(network.data_preprocessor, "seg_pad_val", IGNORED)
    ids = {f"ignore_index of {type(head).__name__}": head.ignore_index for head in heads}
    ids["seg_pad_val of data_preprocessor"] = padding
    ids |= {f"ignore_index of {type(m).__name__}": m.ignore_index for m in metrics if hasattr(m, "ignore_index")}
    if len(set(ids.values())) > 1 or padding != IGNORED:
        listed = ", ".join(f"{name} = {value}" for name, value in ids.items())
        raise ValueError(
            f"losses, padding and metrics must leave out the same id, {IGNORED}, with which mmseg pads crops: {listed}"
        )


def _check_losses(heads: Sequence[BaseDecodeHead]) -> None:
    """Checks that mmsegmentation can compute the losses."""
    for head in heads:
        if getattr(type(head), "loss_by_feat", None) is not BaseDecodeHead.loss_by_feat:
            continue  # the head computes its losses itself
        losses = head.loss_decode if isinstance(head.loss_decode, nn.ModuleList) else [head.loss_decode]
        for loss in losses:
            where, weights = f"{type(loss).__name__} of {type(head).__name__}", getattr(loss, "class_weight", None)
            if weights is not None and len(weights) != head.num_classes:
                raise ValueError(f"{where}: class_weight has {len(weights)} numbers for {head.num_classes} classes")
            if isinstance(loss, CrossEntropyLoss) and weights is not None:
                option = "use_sigmoid" if loss.use_sigmoid else "avg_non_ignore" if loss.avg_non_ignore else ""
                if option:
                    raise ValueError(
                        f"{where}: mmsegmentation cannot compute class_weight with {option}=True: "
                        "take WeightedCrossEntropyLoss"
                    )
            if not {"weight", "kwargs"} & set(signature(loss.forward).parameters):
                raise ValueError(
                    f"{where}: this loss is computed by other heads only, such as PIDHead; for hard pixels take "
                    "sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000) in the head"
                )


def _heads(head: nn.Module | None) -> list[BaseDecodeHead]:
    """Returns the heads of a model's `decode_head` or `auxiliary_head`."""
    return [] if head is None else list(head) if isinstance(head, nn.ModuleList) else [head]
