"""Builds ViLUNet3D at full width: convolutions at full to 1/4 resolution, ViL at 1/8 and 1/16.

Channels, classes and strides come from the plan.
"""

model = dict(
    type="VolumeSegmentor",
    network=dict(
        type="ViLUNet3D",
        channels=(32, 64, 128, 256, 320),
        depths=(0, 0, 0, 4, 2),
        block="vil",
        drop_path=0.1,
    ),
)
