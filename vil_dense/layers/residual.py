"""Defines the parts of residual branches: LayerScale and stochastic depth."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vil_dense.errors import refuse_other

DROP_FORMS = ("bernoulli", "subset")


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor with the value `initial` at first (arXiv 2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Residual(nn.Module):
    """Adds x to branch(x), left out at random for whole samples in training (stochastic depth, arXiv 1603.09382).

    Args:
        rate: probability of leaving the branch out, in [0, 1).
        form: `bernoulli` draws for each sample; `subset` is the official form: exactly max(int(B * keep), 1) samples go
            through the branch, and nothing is computed for the others. Where a batch is so small that the share of them
            would be off by more than 0.01, `subset` draws for each sample too.
    """

    def __init__(self, rate: float, form: str = "bernoulli") -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a stochastic depth rate lies in [0, 1), got {rate}")
        refuse_other(form, DROP_FORMS, "form of stochastic depth")
        self.rate, self.form = rate, form

    def forward(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.rate == 0 or not self.training:
            return x + branch(x)
        B, keep = x.shape[0], 1 - self.rate
        kept = max(int(B * keep), 1)
        if self.form == "subset" and B and abs(keep - kept / B) <= 0.01:
            index = torch.randperm(B, device=x.device)[:kept]
            return x.index_add(0, index, branch(x[index]).to(x.dtype), alpha=B / kept)
        mask = x.new_empty(B, *[1] * (x.ndim - 1)).bernoulli_(keep) / keep
        return x + branch(x) * mask

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}, form={self.form}"
