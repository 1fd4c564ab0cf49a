"""Compares two processes, each on half a batch, with one on the whole; `test_distributed.py` runs this by torchrun.

`test_distributed.py` runs it as `shard_two.py fsdp | ddp NAME`.
"""

import datetime
import sys

import torch
from small_models import assert_close, assert_same, build, gradients, picture, random_like
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

BATCH = 4
STEPS = 3


def half(x: Tensor) -> Tensor:
    return x.chunk(2)[distributed.get_rank()]


def whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def wrapped(kind: str, name: str) -> nn.Module:
    model = build(name).train()
    if kind == "ddp":
        return DistributedDataParallel(model, static_graph=True)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    assert all(isinstance(weight, DTensor) for weight in model.parameters())
    assert all(isinstance(block, FSDPModule) for block in model.blocks)
    return model


def main(kind: str, name: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    x, alone, model = picture(name, BATCH), build(name).train(), wrapped(kind, name)
    optimizers = [torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9) for network in (alone, model)]
    for _ in range(STEPS):
        with torch.no_grad():
            y = alone(x)
        expected = gradients(alone, x)
        model.zero_grad()
        out = model(half(x))
        assert_close(out, half(y))
        # Gradients are averaged over the two processes.
        (2 * out * half(random_like(y))).sum().backward()
        found = {key.removeprefix("module."): whole(weight.grad) for key, weight in model.named_parameters()}
        assert_same(found, expected)
        for optimizer in optimizers:
            optimizer.step()
    expected = {key: weight.detach() for key, weight in alone.named_parameters()}
    assert (expected["blocks.0.layer.proj_up.weight"] - build(name).blocks[0].layer.proj_up.weight).abs().max() > 1e-4
    assert_same(
        {key.removeprefix("module."): whole(weight).detach() for key, weight in model.named_parameters()}, expected
    )
    distributed.barrier()
    sys.stdout.write(f"process {distributed.get_rank()}: done\n")  # in one piece: both write to the same pipe
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
