"""Run by torchrun, by `test_distributed.py`: BatchNorm over all processes against the same norm of the whole batch.

On `cpu` the statistics are put together by hand, from sums that are added up over the processes (torch's SyncBatchNorm
has no CPU form); on `cuda` it is SyncBatchNorm's turn to equal both.
"""

import sys

import torch
from torch import Tensor, distributed, nn


class SumOfAll(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.clone()
        distributed.all_reduce(grad)
        return grad


def norm_of_all(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """The output for this process's pictures, and the running mean and variance after one step."""
    count = SumOfAll.apply(x.new_tensor(float(x.numel() // x.shape[1])))
    mean = SumOfAll.apply(x.sum((0, 2, 3))) / count
    centred = x - mean[:, None, None]
    var = SumOfAll.apply(centred.square().sum((0, 2, 3))) / count
    y = centred / (var + norm.eps).sqrt()[:, None, None] * norm.weight[:, None, None] + norm.bias[:, None, None]
    keep, step = 1 - norm.momentum, norm.momentum
    running = keep * norm.running_mean + step * mean, keep * norm.running_var + step * var * count / (count - 1)
    return y, *(value.detach() for value in running)


def main(device: str) -> None:
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    rank = distributed.get_rank()
    if device == "cuda":
        torch.cuda.set_device(rank)
    generator = torch.Generator().manual_seed(0)
    batch, weigh = (torch.randn(4, 6, 3, 5, generator=generator, dtype=torch.float64).to(device) for _ in range(2))
    batch = batch * torch.arange(1, 7, device=device)[:, None, None] + 3
    mine = slice(0, 3) if rank == 0 else slice(3, 4)
    norm = nn.BatchNorm2d(6, dtype=torch.float64, device=device)
    nn.init.normal_(norm.weight, generator=torch.Generator(device).manual_seed(1))

    whole, x = batch.clone().requires_grad_(True), batch[mine].clone().requires_grad_(True)
    y, running_mean, running_var = norm_of_all(x, norm)
    (y * weigh[mine]).sum().backward()
    expected = norm(whole)
    (expected * weigh).sum().backward()
    torch.testing.assert_close(y, expected[mine])
    torch.testing.assert_close(x.grad, whole.grad[mine])
    torch.testing.assert_close(running_mean, norm.running_mean)
    torch.testing.assert_close(running_var, norm.running_var)
    alone = nn.BatchNorm2d(6, dtype=torch.float64, device=device)(batch[mine])
    assert (alone - nn.functional.batch_norm(batch, None, None, training=True)[mine]).abs().max() > 0.1, "no test"

    if device == "cuda":
        sync = nn.SyncBatchNorm(6, device=device, dtype=torch.float64)
        sync.weight.data.copy_(norm.weight)
        again = batch[mine].clone().requires_grad_(True)
        z = sync(again)
        (z * weigh[mine]).sum().backward()
        for own, theirs in (
            (z, y),
            (again.grad, x.grad),
            (sync.running_mean, running_mean),
            (sync.running_var, running_var),
        ):
            torch.testing.assert_close(own, theirs)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
