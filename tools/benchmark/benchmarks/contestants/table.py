"""Lists the contestants of each mode."""

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.contestants.case import Case, Contestant
from benchmarks.contestants.layers import own_layer
from benchmarks.contestants.networks import own_network, vit
from benchmarks.contestants.operators import floor, mlstm_kernels, own_operator
from benchmarks.contestants.peers import official
from benchmarks.contestants.segmentors import segmentor
from vil_dense.ops import BACKENDS

Make = Callable[[Case], Contestant]
"""Raises LeftOut where the contestant cannot take part."""


def contestants(mode: str, directions: Sequence[str] = ()) -> dict[str, Make]:
    """Returns makers by name in the order in which they take turns; each of `directions` adds a network of ours."""
    if mode == "op":
        own = {backend: partial(own_operator, backend=backend) for backend in BACKENDS}
        compiled = partial(own_operator, backend="chunkwise", compiled=True)
        return {**own, "chunkwise-compiled": compiled, "mlstm_kernels": mlstm_kernels, "floor": floor}
    if mode == "layer":
        return {backend: partial(own_layer, backend=backend) for backend in BACKENDS if backend != "recurrent"}
    if mode == "infer":
        return {**_both_modes("ours", segmentor), **_both_modes("vit", partial(segmentor, attention=True))}
    found = {**_both_modes("ours", own_network), **_both_modes("ours-triton", partial(own_network, backend="triton"))}
    for direction in directions:
        found |= _both_modes(f"ours-{direction}", partial(own_network, direction=direction))
    if mode == "train":
        found |= _both_modes("ours-cp", partial(own_network, with_cp=True))
        found |= _both_modes("ours-kept", partial(own_network, recompute=False))
    return {**found, **_both_modes("official", official), **_both_modes("vit", vit), "floor": floor}


def _both_modes(name: str, make: Callable[..., Contestant]) -> dict[str, Make]:
    return {name: make, f"{name}-compiled": partial(make, compiled=True)}
