"""Builds ViLUNet3D for the equal budget on two CPU cores: 1.3 million parameters, ViL at 1/4 and 1/8 resolution."""

model = dict(
    type="VolumeSegmentor",
    network=dict(type="ViLUNet3D", channels=(8, 24, 64, 96), depths=(0, 0, 4, 2), block="vil"),
)
