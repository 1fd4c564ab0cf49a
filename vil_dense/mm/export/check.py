"""Compares an exported network with the segmentor that it was exported from, at several sizes."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_DIFFERENCE = 1e-4
"""Bounds the difference of logits, relative to the largest one."""
SAME_CLASSES = 0.999
"""Smallest share of pixels with the same class."""

Run = Callable[[Tensor], Tensor]


class Agreement(NamedTuple):
    """Stores how close the results for one input are: largest difference of logits, relative; share of same classes."""

    shape: tuple[int, ...]
    difference: float
    same: float

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))}: difference {self.difference:.1e}, {self.same:.2%} same classes"


def check_sizes(height: int, width: int) -> list[tuple[int, int, int]]:
    """Returns five (batch, H, W) around a size, two batches and odd numbers among them."""
    return [
        (1, height, width),
        (2, height // 2 | 1, 3 * width // 4),
        (1, 3 * height // 4, width // 2 | 1),
        (2, height // 2 - 1 | 1, width // 2 - 3 | 1),
        (1, 5 * height // 4 | 1, 5 * width // 8),
    ]


@torch.no_grad()
def compare(
    run: Run, reference: Run, inputs: Sequence[Tensor], say: Callable[[str], None] = lambda text: None
) -> list[Agreement]:
    """Returns the agreement for each input: logits (B, K, H, W), or classes (B, H, W), of `run` and `reference`.

    Args:
        run, reference: the exported network, and the segmentor.
        inputs: of several sizes.
        say: receives a text before each size is checked.

    Raises:
        ValueError: `run` fails at an input, or its result is another one.
    """
    agreements = []
    for number, x in enumerate(inputs, 1):
        shape = tuple(x.shape)
        say(f"checking size {number} of {len(inputs)}, {' x '.join(map(str, shape))}")
        expected = reference(x)
        try:
            found = run(x)
        except Exception as error:  # of any runtime
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the exported model does not run on an input of {shape}, so it is not written: {why}"
            ) from None
        if found.shape != expected.shape:
            raise ValueError(
                f"the exported model gives {tuple(found.shape)} and not {tuple(expected.shape)}: not written"
            )
        agreement = _agreement(shape, found, expected)
        if not (agreement.difference <= LARGEST_DIFFERENCE and agreement.same >= SAME_CLASSES):
            raise ValueError(
                f"the exported model differs from the segmentor, so it is not written: input {agreement} (allowed: "
                f"{LARGEST_DIFFERENCE:.0e}, {SAME_CLASSES:.1%})"
            )
        agreements.append(agreement)
    return agreements


def _agreement(shape: tuple[int, ...], found: Tensor, expected: Tensor) -> Agreement:
    if not expected.is_floating_point():
        return Agreement(shape, 0.0, float((found == expected).float().mean()))
    difference = float((found - expected).abs().max() / expected.abs().max())
    classes = [x.argmax(1) if x.shape[1] > 1 else x > 0 for x in (found, expected)]
    return Agreement(shape, difference, float((classes[0] == classes[1]).float().mean()))


@torch.no_grad()
def seconds(run: Run, x: Tensor, times: int = 3) -> float:
    """Returns the shortest time of several runs on an input, after one that is not counted."""
    run(x)
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run(x)
        taken.append(time.perf_counter() - start)
    return min(taken)
