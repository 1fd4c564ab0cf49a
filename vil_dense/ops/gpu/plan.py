"""Plans how work is cut: chunks of tokens, tiles of tokens and channels, precision."""

from typing import NamedTuple

import torch

HALF = (torch.bfloat16, torch.float16)
WHOLE = 256
"""Sequences of at most `WHOLE` tokens are one chunk: no states are written to memory."""
CHUNK, WIDE_CHUNK = 256, 512
"""Tokens of a chunk in longer sequences; `WIDE_CHUNK` for heads of more than 256 channels, whose states are large."""


class Tile(NamedTuple):
    """Sizes a program: it holds `BT` tokens of a whole head and runs over `BS` tokens at once.

    Warps split the rows of a product whose rows are not fewer than its columns, else the columns: BT, BS and the block
    of channels are such that no two warps compute the same.
    """

    BT: int
    BS: int
    warps: int
    stages: int


FORWARD = {128: Tile(64, 32, 4, 2), 256: Tile(32, 64, 8, 2), 384: Tile(32, 32, 8, 1), 512: Tile(16, 64, 8, 1)}
BACKWARD = {128: Tile(64, 16, 4, 2), 256: Tile(32, 64, 8, 2), 384: Tile(32, 32, 8, 1), 512: Tile(16, 32, 8, 1)}
"""Tiles for half-precision inputs: the largest that spill no registers. A key is the largest number of channels of a
head (DH) for which its tile is used."""
FULL_FORWARD = {128: Tile(32, 32, 8, 1), 512: Tile(32, 32, 8, 1)}
FULL_BACKWARD = {128: Tile(32, 32, 8, 1), 512: Tile(16, 16, 8, 1)}
"""Tiles for float32 inputs, by the same rule."""


class Plan(NamedTuple):
    """Cuts the work: S tokens are N chunks of L; blocks of `BD` channels, `NB` of which are a head of DH."""

    S: int
    L: int
    N: int
    BD: int
    NB: int
    DH: int
    half: bool
    PRECISION: str

    @property
    def state_dtype(self) -> torch.dtype:
        """Returns the dtype of states in memory: bfloat16 for float16 too, which might overflow."""
        return torch.bfloat16 if self.half else torch.float32

    def tile(self, backward: bool = False) -> Tile:
        """Returns the tile of programs that hold a whole head."""
        table = (BACKWARD if backward else FORWARD) if self.half else (FULL_BACKWARD if backward else FULL_FORWARD)
        return next((tile for most, tile in table.items() if most >= self.DH), table[512])


def precision_of(dtype: torch.dtype) -> str:
    """Returns how Triton multiplies float32: exactly, or in TF32 if torch may; of half precision, sums of the gates."""
    return "ieee" if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest" else "tf32"


def make_plan(S: int, DH: int, dtype: torch.dtype) -> Plan:
    """Plans the scan of sequences of S tokens by heads of DH channels."""
    half = dtype in HALF
    largest = 64 if half and DH > 128 else 32 if DH > 16 else 16
    BD = next((size for size in (64, 32, 16) if size <= largest and DH % size == 0), largest)
    L = -(-S // 64) * 64 if S <= WHOLE else WIDE_CHUNK if DH > 256 else CHUNK
    return Plan(S, L, -(-S // L), BD, -(-DH // BD), DH, half, precision_of(dtype))
