"""Describes a bundle by MONAI's metadata schema."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import monai
import numpy as np
import torch

from vil_dense import __version__
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.label_map import LabelMap

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def metadata(plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata.json, of MONAI's schema.

    Args:
        about: keys to add or replace, e.g. task, description, eval_metrics.
    """
    # MONAI 1.6 overwrites the required packages by the optional ones, so both lists are equal.
    packages = {"vil_dense": __version__} | {name: version(name) for name in ("nibabel", "pytorch-ignite")}
    shape = [f"{size}*n" for size in plan["patch_vox"]]
    known = LabelMap.of(plan)
    names = {str(index): name for index, name in enumerate(known.outputs)}
    channels = {str(index): name for index, name in enumerate(plan["channels"])}
    tensor = dict(spatial_shape=shape, dtype="float32", is_patch_data=True)
    image = dict(type="image", format="magnitude", num_channels=len(channels), value_range=[-10, 10])
    scores = dict(type="image", format="logits", num_channels=len(names), value_range=[-100, 100])
    fields = dict(
        schema=SCHEMA_URL,
        version="0.1.0",
        changelog={"0.1.0": "exported"},
        monai_version=monai.__version__,
        pytorch_version=torch.__version__.partition("+")[0],
        numpy_version=np.__version__,
        required_packages_version=packages,
        optional_packages_version=packages,
        task=f"Segmentation of {', '.join(known.structures)}",
        description="A network for the segmentation of volumes, trained with vil_dense.",
        authors="to be filled in",
        copyright="to be filled in",
        data_type="nibabel",
        intended_use="Research. No medical device.",
        network_data_format=dict(
            inputs=dict(image={**image, **tensor, "channel_def": channels}),
            outputs=dict(pred={**scores, **tensor, "channel_def": names}),
        ),
    )
    return {**fields, **about}
