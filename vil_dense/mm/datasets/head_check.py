"""Checks that the heads of a segmentor fit its data set and its metrics."""

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset
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
        losses = head.loss_decode if isinstance(head.loss_decode, nn.ModuleList) else [head.loss_decode]
        for loss in losses:
            if getattr(loss, "class_weight", None) is not None and getattr(loss, "avg_non_ignore", False):
                raise ValueError(
                    f"{type(loss).__name__} of {type(head).__name__}: mmsegmentation cannot compute class_weight with "
                    "avg_non_ignore=True: set loss_decode.avg_non_ignore=False"
                )


def _heads(head: nn.Module | None) -> list[BaseDecodeHead]:
    """Returns the heads of a model's `decode_head` or `auxiliary_head`."""
    return [] if head is None else list(head) if isinstance(head, nn.ModuleList) else [head]
