"""Run by torchrun, by `test_sharded.py`: a small classifier sharded over two processes.

`sharded.py evaluation FOLDER`: a run that evaluates on three pictures of two windows and on five of three.
`sharded.py parts`: whole state dicts, and a number that is not finite in one process's part of a weight.
"""

import datetime
import sys
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from vil_dense.mm import ImageClassifier, ShardedRunner
from vil_dense.mm.engine.distributed import end_processes, shard
from vil_dense.mm.engine.hooks.nan_trace import first_not_finite
from vil_dense.mm.utils.safe_load import load_safely


class Windows(ImageClassifier):
    """Adds up what it says of each window; process 0 has two in a picture, process 1 three."""

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> dict | list[Tensor]:
        if mode == "loss":
            return super().forward(inputs, labels, mode)
        windows = inputs.split(16, dim=-1)[: distributed.get_rank() + 2]
        return list(torch.stack([self.net(window) for window in windows]).sum(0))


class Said(BaseMetric):
    """Keeps what was said of this process's pictures; more with each evaluation."""

    score = 0.0

    def process(self, data_batch: object, data_samples: list[Tensor]) -> None:
        self.results.extend(data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        self.said = torch.stack(self.results)
        self.results.clear()
        self.score += 1
        return dict(score=self.score)

    def compute_metrics(self, results: list) -> dict[str, float]:
        raise NotImplementedError


class First(Hook):
    """An evaluation before the first step, as a run may begin that goes on."""

    priority = "LOWEST"  # after the checkpoint hook, which saves the best

    def before_train(self, runner: Runner) -> None:
        runner.val_loop.run()


def network() -> Windows:
    torch.manual_seed(0)
    net = Windows(dim=32, depth=2, grid=(1, 1), num_classes=3)
    torch.nn.init.normal_(net.net.head.weight)
    return net


def pictures(count: int, width: int) -> list[dict]:
    generator = torch.Generator().manual_seed(count)
    return [dict(inputs=torch.randn(3, 16, width, generator=generator), labels=index % 3) for index in range(count)]


def seen_by(rank: int) -> list[dict]:
    """What a process evaluates on."""
    return pictures(5, 48) if rank else pictures(3, 32)


def runner(folder: Path, rank: int, metric: Said | None) -> Runner:
    """Four steps; with a metric an evaluation before them and after each second one, and a test."""
    shown = DataLoader(seen_by(rank), batch_size=1) if metric else None
    best = dict(save_best="score", rule="greater") if metric else {}
    checkpoint = dict(type="SafeCheckpointHook", by_epoch=False, interval=4, **best)
    return ShardedRunner(
        network(),
        str(folder),
        train_dataloader=DataLoader(pictures(8, 16), batch_size=2),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=4, val_interval=2),
        val_dataloader=shown,
        val_cfg=metric and dict(),
        val_evaluator=metric and [metric],
        test_dataloader=shown,
        test_cfg=metric and dict(),
        test_evaluator=metric and [metric],
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01)),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[First()] if metric else [],
        log_processor=dict(by_epoch=False),
        launcher="pytorch",
        experiment_name=folder.name,
    )


def evaluation(folder: Path, rank: int) -> None:
    metric = Said()
    run = runner(folder / "seen", rank, metric)
    run.train()
    run.test()
    assert metric.score == 4 and all(isinstance(weight, DTensor) for weight in run.model.parameters())
    runner(folder / "blind", rank, None).train()
    distributed.barrier()  # the first process has written

    saved = load_safely(str(folder / "seen/iter_4.pth"))
    unseen = load_safely(str(folder / "blind/iter_4.pth"))
    torch.testing.assert_close(saved["state_dict"], unseen["state_dict"], rtol=0, atol=0)
    best = load_safely(str(folder / "seen/best_score_iter_4.pth"))
    torch.testing.assert_close(best["state_dict"], saved["state_dict"], rtol=0, atol=0)
    assert "optimizer" in saved and "optimizer" not in best

    alone = network()
    alone.load_state_dict(saved["state_dict"])
    with torch.no_grad():
        said = [alone(part["inputs"][None], None)[0] for part in seen_by(rank)]
    torch.testing.assert_close(metric.said, torch.stack(said), rtol=0, atol=1e-5)


def parts(rank: int) -> None:
    expected, net = network().state_dict(), shard(network())
    state = net.state_dict()
    assert list(state) == list(expected)
    for name, value in state.items():
        assert value.device.type == ("meta" if rank else "cpu") and value.shape == expected[name].shape
        assert rank or torch.equal(value, expected[name]), name

    batch = pictures(1, 64)[0]["inputs"].repeat(2, 1, 1, 1), torch.tensor([0, 2])  # one for all processes
    gradients = []
    for model, with_cp in ((network(), False), (net, False), (net, True)):
        model.net.with_cp = with_cp
        model.zero_grad()
        model(*batch, mode="loss")["loss"].backward()
        found = {name: weight.grad for name, weight in model.named_parameters()}
        gradients.append({name: x.full_tensor() if isinstance(x, DTensor) else x for name, x in found.items()})
    torch.testing.assert_close(gradients[1:], gradients[:1] * 2)

    weight = net.net.blocks[1].layer.proj_up.weight
    if rank:
        weight.data.to_local()[0, 0] = torch.inf
    words = first_not_finite(net, lambda: net(*batch, mode="loss")["loss"])
    assert words == "net.blocks.1.layer.proj_up.weight, which was not finite before the step", words


def main(what: str, *folder: str) -> None:
    distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    rank = distributed.get_rank()
    if what == "evaluation":
        evaluation(Path(*folder), rank)
    else:
        parts(rank)
    end_processes()
    sys.stdout.write(f"process {rank}: done\n")  # in one piece: both write to the same pipe


if __name__ == "__main__":
    main(*sys.argv[1:])
