"""What holds for any size, gates, dtype, spacing and orientation, tried on drawn examples; the draws are fixed."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vil_dense.backbones import VisionLSTM
from vil_dense.ops import mlstm

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
FEWER = settings(EXAMPLES, max_examples=12)


def inputs(S: int, DH: int, scale: float, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """q, k, v (2, 2, S, DH) and gates (2, 2, S) of deviation `scale`, cut at 1e4."""
    draw = torch.Generator().manual_seed(seed)
    tokens = [torch.randn(2, 2, S, DH, generator=draw, dtype=torch.float64) for _ in range(3)]
    gates = [(scale * torch.randn(2, 2, S, generator=draw, dtype=torch.float64)).clamp(-1e4, 1e4) for _ in range(2)]
    return [x.to(dtype).requires_grad_() for x in tokens + gates]


@EXAMPLES
@given(
    S=st.integers(1, 300), DH=st.sampled_from([1, 3, 8, 24]), scale=st.sampled_from([0.0, 1.0, 30.0, 3e3]),
    reverse=st.booleans(), seed=st.integers(0, 99), backend=st.sampled_from(["chunkwise", "parallel"]),
)  # fmt: skip
def test_mlstm_is_the_recurrence(S: int, DH: int, scale: float, reverse: bool, seed: int, backend: str):
    results = []
    for name in ("recurrent", backend):
        given_inputs = inputs(S, DH, scale, seed, torch.float64)
        h = mlstm(*given_inputs, reverse=reverse, backend=name)
        h.square().sum().backward()
        results.append((h, *(x.grad for x in given_inputs)))
    for x in results[1]:
        assert x.isfinite().all()
    for found, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * max(1.0, expected.abs().max().item()))


@EXAMPLES
@given(
    S=st.integers(1, 300), scale=st.sampled_from([1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    reverse=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_mlstm_in_fewer_bits(S: int, scale: float, dtype: torch.dtype, reverse: bool, seed: int):
    """Finite for every gate, and right."""
    given_inputs = inputs(S, 8, scale, seed, dtype)
    h = mlstm(*given_inputs, reverse=reverse, backend="chunkwise")
    h.square().sum().backward()
    assert h.dtype == torch.float32 and all(x.grad.isfinite().all() for x in given_inputs)
    if scale == 1:  # sums of larger gates have fewer digits than their exponentials need
        exact = mlstm(*(x.detach().double() for x in given_inputs), reverse=reverse, backend="recurrent")
        torch.testing.assert_close(h.double(), exact, rtol=0, atol=1e-4 * exact.abs().max().item())


@FEWER
@given(
    size=st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 12)] * 3)),
    patch=st.sampled_from([2, 4, 5]), conv=st.sampled_from(["causal", "grid"]),
    direction=st.sampled_from(["bi-alternating", "quad-alternating", "bi"]),
)  # fmt: skip
def test_a_network_takes_any_size(size: tuple[int, ...], patch: int, conv: str, direction: str):
    found = []
    for backend in ("chunkwise", "recurrent"):
        torch.manual_seed(0)
        network = VisionLSTM(
            dim=8, depth=4, in_channels=2, patch_size=patch, grid=(3,) * len(size), conv=conv, direction=direction,
            backend=backend,
        ).double().eval()  # fmt: skip
        found.append(network(torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))))
    assert found[0].shape == (2, *(-(-length // patch) for length in size), 8)
    torch.testing.assert_close(*found)


pytest.importorskip("monai", reason="volumes need monai and nibabel: pip install '.[medical]'")
from nifti_files import affine, write_nifti  # noqa: E402

from vil_dense.medical.nifti import read_image, read_label, write_mask  # noqa: E402
from vil_dense.medical.predict import predict  # noqa: E402

# Every way to name three axes, each from either end.
ORIENTATIONS = [
    "".join(ends)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for ends in itertools.product(*axes)
]  # fmt: skip
DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


class Rounded(nn.Module):
    """Logits of the three classes whose number is nearest to twice the voxel's value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((2 * x - torch.arange(3.0).view(1, -1, 1, 1, 1)) ** 2)


@EXAMPLES
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    orientation=st.sampled_from(ORIENTATIONS), plan_orientation=st.sampled_from(ORIENTATIONS),
    dtype=st.sampled_from(DTYPES), endian=st.sampled_from("<>"), suffix=st.sampled_from([".nii", ".nii.gz"]),
    same=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_mask_lies_on_the_grid_of_its_image(
    shape: tuple, spacing: tuple, orientation: str, plan_orientation: str, dtype: str, endian: str, suffix: str,
    same: bool, seed: int,
):  # fmt: skip
    """And equals the truth where nothing is resampled."""
    truth = np.random.default_rng(seed).integers(0, 3, shape)
    place = affine(orientation, spacing)
    with tempfile.TemporaryDirectory() as folder:
        stored = truth.astype(np.dtype(dtype).newbyteorder(endian))
        image, grid = read_image([write_nifti(Path(folder) / f"a{suffix}", stored, place, endian=endian)])
        # of the file's axes, in the order of the plan's
        order = [next(n for n, end in enumerate(orientation) if end in pair) for pair in pairs(plan_orientation)]
        plan = dict(
            channels=["MR"], labels=dict(background=0, one=1, two=2), orientation=plan_orientation,
            spacing_mm=[grid.spacing_mm[axis] for axis in order] if same else (1.5, 1.0, 2.0),
            patch_vox=(8, 8, 8), intensity=[dict(rule="range", low=0, high=2)],
        )  # fmt: skip
        found = predict([Rounded()], image, grid, plan)
        write_mask(Path(folder) / f"mask{suffix}", found, grid)
        mask, mask_grid = read_label(Path(folder) / f"mask{suffix}", (0, 1, 2))
    assert mask.shape == shape
    np.testing.assert_array_equal(mask_grid.affine, grid.affine)
    np.testing.assert_allclose(grid.affine, place, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mask, found)
    if same:
        np.testing.assert_array_equal(mask, truth)


def pairs(orientation: str) -> list[str]:
    """Of each axis both ends."""
    return [next(pair for pair in ("RL", "AP", "SI") if end in pair) for end in orientation]
