"""How work is cut: chunks of tokens, tiles of tokens and channels, precision."""

from typing import Any, NamedTuple

import torch

HALF = (torch.bfloat16, torch.float16)
WHOLE = 256
"""Sequences of up to so many tokens are one chunk: no states lie in memory."""
CHUNK, WIDE_CHUNK = 256, 512
"""Tokens of a chunk in longer ones; the second for heads of more than 256 channels, whose states are large."""


class Plan(NamedTuple):
    """S tokens are N chunks of L; programs take tiles of `BT` tokens and `BD` channels, `NB` such blocks are a head."""

    S: int
    L: int
    N: int
    BT: int
    BD: int
    NB: int
    PRECISION: str
    state_dtype: torch.dtype
    stages: int

    @property
    def tiles(self) -> int:
        return -(-self.S // self.BT)

    def backward(self) -> "Plan":
        """The plan of the gradients, whose programs hold twice as much."""
        return self._replace(BT=32, stages=2 if self.NB * self.BD <= 256 and self.state_dtype in HALF else 1)

    @property
    def tiled(self) -> dict[str, Any]:
        """Arguments of kernels that hold a whole head in registers."""
        return dict(BD=self.BD, NB=self.NB, BT=self.BT, PRECISION=self.PRECISION, num_warps=8, num_stages=self.stages)


def precision_of(dtype: torch.dtype) -> str:
    """How Triton multiplies float32: exactly, or in TF32 if torch may; sums of the gates of half-precision too."""
    return "ieee" if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest" else "tf32"


def make_plan(S: int, DH: int, dtype: torch.dtype) -> Plan:
    """Plans the scan of sequences of S tokens by heads of DH channels."""
    half = dtype in HALF
    wide = DH > 128
    BD = next(size for size in (64, 32, 16) if DH % size == 0 or size == 16 or DH > 3 * size)
    BD = min(BD, 32) if not half else BD
    BT = 32 if wide or not half else 64
    L = -(-S // 64) * 64 if S <= WHOLE else WIDE_CHUNK if DH > 256 else CHUNK
    return Plan(
        S=S,
        L=L,
        N=-(-S // L),
        BT=BT,
        BD=BD,
        NB=-(-DH // BD),
        PRECISION=precision_of(dtype),
        state_dtype=torch.bfloat16 if half else torch.float32,
        stages=2 if half else 1,
    )
