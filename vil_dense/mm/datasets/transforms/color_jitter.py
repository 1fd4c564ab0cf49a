"""Jitters colours as torchvision does; mmseg's PhotoMetricDistortion shifts the brightness instead of scaling it."""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Changes brightness, contrast, saturation and hue of `img` (BGR uint8), each every time, in random order.

    Args:
        brightness, contrast, saturation: the factor is uniform in [max(0, 1 - x), 1 + x].
        hue: the shift is uniform in [-x, x]; 1 is the whole colour circle.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        self.spread = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)

    def transform(self, results: dict) -> dict:
        image = results["img"]
        for name in np.random.permutation(list(self.spread)):
            spread, centre = self.spread[name], 0.0 if name == "hue" else 1.0
            low = -spread if name == "hue" else max(0.0, 1.0 - spread)
            image = ADJUST[name](image, np.random.uniform(low, centre + spread))
        results["img"] = image
        return results


def shift_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Shifts the hue of `image` (BGR uint8) by a fraction of the colour circle, which OpenCV divides into 180 steps."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = ((hsv[..., 0].astype(np.int16) + round(180 * shift)) % 180).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


ADJUST = dict(
    brightness=mmcv.adjust_brightness,
    contrast=mmcv.adjust_contrast,
    saturation=mmcv.adjust_color,
    hue=shift_hue,
)
