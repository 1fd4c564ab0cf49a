"""ViLUNet3D at full width: convolutions at /1 to /4, ViL at /8 and /16; channels, classes and strides from the plan."""

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
