"""Defines the cases of a benchmark, its contestants, and the comparison of their results."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vil_dense.backbones import variant
from vil_dense.ops.compiled import compiler_problem

NUM_HEADS, PATCH = 4, 16
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest deviation relative to the largest value, of outputs and the operator's gradients; a network's gradients get
ten times as much in float32 and twice as much else."""


class LeftOut(Exception):
    """Reports that a contestant cannot take part; the message gives the reason."""


class Check(NamedTuple):
    """Stores a comparison: `deviation` measures the distance of a contestant from the reference `against`."""

    against: str
    deviation: Callable[[], float]
    tolerance: float


class Contestant(NamedTuple):
    """Stores a contestant: `step` is timed; in the ratios the fastest contestant represents its `family`."""

    family: str
    step: Callable[[], object]
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Case:
    """Stores one size of one mode.

    `size` is the side of a square picture in px, for a layer the shorter side, for the operator the length S.
    """

    mode: str
    variant: str
    size: int
    batch: int
    device: torch.device
    dtype: torch.dtype
    memory_limit: float  # bytes
    backward: bool = False
    dim: int | None = None
    depth: int | None = None
    official: str | None = None
    config: str | None = None
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.mode} {self.variant} {self.size}x{self.batch} ({self.tokens} tokens)"

    @property
    def side(self) -> int:
        """Returns the number of tokens along one axis of the grid."""
        return -(-self.size // PATCH)

    @property
    def tokens(self) -> int:
        """Returns S of one sample."""
        if self.mode == "op":
            return self.size
        return self.side * (self.side + 2) if self.mode == "layer" else self.side**2

    @property
    def options(self) -> dict[str, Any]:
        """Returns the options of our network, with the norms that the official one of the same version has."""
        options = {**variant(self.variant), "pooling": None, "grid": (self.side, self.side)}
        options.update({key: value for key, value in (("dim", self.dim), ("depth", self.depth)) if value})
        return options if options["conv"] == "causal" else {**options, "head_norm": False, "post_norm_eps": 1e-6}

    @property
    def head_dim(self) -> int:
        """Returns the channels of a head of the mLSTM."""
        return 2 * int(self.options["dim"]) // NUM_HEADS

    @property
    def input_dtype(self) -> torch.dtype:
        """Returns the dtype of pictures and weights: half precision comes from autocast."""
        return torch.promote_types(self.dtype, torch.float32)

    def autocast(self) -> torch.autocast:
        """Returns the autocast context of the case; it is disabled in float32 and float64."""
        half = self.dtype != self.input_dtype
        return torch.autocast(self.device.type, dtype=self.dtype if half else None, enabled=half)

    def random(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws normal values, the same for the same shape."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device, dtype)


def deviation(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Returns the largest difference relative to the largest value expected, the worst of all tensors; NaN where one
    has NaN.

    Gradients that cancel are rounding alone: none is measured by less than a hundredth of the largest gradient.

    Raises:
        ValueError: names or shapes differ.
    """
    if names := set(expected) ^ set(found):
        raise ValueError(f"only one of the two has {', '.join(sorted(names)[:3])}")
    largest = {key: float(value.abs().max()) for key, value in expected.items()}
    least = 1e-2 * max((value for key, value in largest.items() if key != "output"), default=0.0)
    worst = []
    for key, value in expected.items():
        if found[key].shape != value.shape:
            raise ValueError(f"{key} is {tuple(found[key].shape)}, expected {tuple(value.shape)}")
        unit = largest[key] if key == "output" else max(largest[key], least)
        worst.append((found[key].double() - value.double()).abs().max() / max(unit, 1e-30))
    return float(torch.stack(worst).max())


def drop_gradients(tensors: Iterable[Tensor]) -> None:
    """Deletes the gradients of some tensors."""
    for x in tensors:
        x.grad = None


def refuse_quadratic(case: Case, matrices: float) -> None:
    """Raises LeftOut where so many S x S float32 matrices per head and sample would not fit."""
    need = matrices * case.batch * NUM_HEADS * case.tokens**2 * 4
    if need > case.memory_limit:
        sizes = f"about {need / 2**30:.0f} GiB of S x S matrices, the limit is {case.memory_limit / 2**30:.0f} GiB"
        raise LeftOut(f"it would need {sizes}")


def refuse_missing_triton(case: Case, backend: str | None) -> None:
    """Raises LeftOut if `backend` is Triton's and there is no GPU or no triton package."""
    if backend == "triton" and case.device.type == "cpu":
        raise LeftOut("its kernels need a GPU")
    if backend == "triton" and find_spec("triton") is None:
        raise LeftOut("the package triton is missing")


def refuse_uncompiled(case: Case) -> None:
    """Raises LeftOut where nothing can be compiled; makes room for all graphs in the cache that modules share."""
    if problem := compiler_problem(case.device.type):
        raise LeftOut(f"nothing can be compiled here ({problem})")
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 4096


def compile_each(blocks: Iterable[nn.Module], case: Case) -> None:
    """Compiles each block for the sizes of the run, in place, with torch.compile: the fast mode of the others."""
    refuse_uncompiled(case)
    for block in blocks:
        block.compile(dynamic=False)
