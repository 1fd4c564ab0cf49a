"""The byte budget of a ViL block against half a ViT block; counted without a GPU and without Triton."""

import pytest
from block_budget import SIZES, TOKENS, cost_of, vil_block, vit_block


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_a_block(size: str, tokens: str) -> None:
    C, (B, side) = SIZES[size], TOKENS[tokens]
    for train in (False, True):
        ours, vit = (cost_of(block, C, B, side, train) for block in (vil_block, vit_block))
        assert ours.bytes <= 1.5 * vit.bytes / 2
        if not train:
            assert ours.launches <= 16
