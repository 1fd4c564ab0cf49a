"""Registers an initialisation of heads for the `init_cfg` of a config."""

from mmcv.cnn import ConvModule
from mmengine.model import NormalInit
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn


@WEIGHT_INITIALIZERS.register_module()
class NormalConvs(NormalInit):
    """Draws the weights of all 2D convolutions of a module from N(0, std) and sets their biases to 0.

    MMEngine's `Normal` does so too, but mmcv's `ConvModule` among the children of a head draws its own afterwards.
    """

    def __init__(self, std: float = 0.02) -> None:
        super().__init__(std=std, layer="Conv2d")

    def __call__(self, module: nn.Module) -> None:
        super().__call__(module)
        for part in module.modules():
            if isinstance(part, ConvModule):
                part.is_init = True  # MMEngine then leaves it alone
