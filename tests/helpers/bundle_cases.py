"""Makes a plan, a small network and its bundle, and lists what MONAI and torch warn of on the way."""

from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine, write_nifti
from torch import nn
from volume_plans import small_plan

from vil_dense.medical import build_network
from vil_dense.medical.bundle import write_bundle

PLAN = small_plan("organ", patch_vox=(16, 16, 16))
NETWORK = dict(type="ViLUNet3D", channels=(8, 8, 8), depths=(0, 0, 1), deep_supervision=2)
OF_MONAI = {
    "DynUNet": dict(
        kernel_size=[3] * 3,
        strides=[1, 2, 2],
        upsample_kernel_size=[2] * 2,
        filters=[4, 8, 16],
        deep_supervision=True,
        deep_supr_num=1,
    ),
    "SegResNet": dict(init_filters=8),
    "MedNeXt": dict(init_filters=4, kernel_size=3, blocks_down=[1] * 2, blocks_up=[1] * 2, deep_supervision=True),
    "SwinUNETR": dict(feature_size=12),
    "UNETR": dict(hidden_size=24, num_heads=2, mlp_dim=12, feature_size=4),
}
"""Small options of MONAI's networks."""
# MONAI 1.6 renames a key of its own schema and warns that configs are programs.
WARNINGS = [
    pytest.mark.filterwarnings("ignore:Detected deprecated name 'optional_packages_version':UserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::FutureWarning:monai"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(torch|monai|ignite)"),
]


def small_bundle(out: Path, network: dict = NETWORK, plan: dict = PLAN) -> tuple[nn.Module, str]:
    """Writes a bundle of an untrained network; returns the network, in eval mode, and what was said of TorchScript."""
    model = build_network(plan, **network).eval()
    return model, write_bundle(out, plan, network, model, texts={"docs/README.md": "a card\n", "LICENSE": "none\n"})


def write_boxes(folder: Path, count: int) -> Path:
    """Writes `count` cases in `imagesTr` and `labelsTr`: a bright box to find."""
    for number in range(count):
        rng = np.random.default_rng(number)
        label = np.zeros((18, 20, 17), dtype=np.uint8)
        label[4:11, 5:12, 3:9] = 1
        image = (label * 200 + rng.normal(0, 20, label.shape)).astype(np.int16)
        write_nifti(folder / f"imagesTr/c{number}.nii.gz", image, affine("LPS", (1.0, 1.2, 1.4)))
        write_nifti(folder / f"labelsTr/c{number}.nii.gz", label, affine("LPS", (1.0, 1.2, 1.4)))
    return folder
