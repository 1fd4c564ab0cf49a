"""Lists the necks that a segmentor on ViL can have, in mmseg's words, for `dim` channels and tokens every 16 px."""

from typing import Any

RESCALES = [4, 2, 1, 0.5]
NECKS = ("none", "deconv", "bilinear")


def neck(name: str, dim: int, norm_cfg: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the config of a neck from four maps of stride 16 to strides 4 to 32; None for `none`."""
    if name == "deconv":
        return dict(type="Feature2Pyramid", embed_dim=dim, rescales=RESCALES, norm_cfg=norm_cfg)
    if name == "bilinear":
        return dict(type="MultiLevelNeck", in_channels=[dim] * 4, out_channels=dim, scales=RESCALES, norm_cfg=norm_cfg)
    assert name == "none", name
    return None
