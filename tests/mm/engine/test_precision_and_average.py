"""Trains in bfloat16 on the CPU, and with averaged weights, by one option each."""

import math
import re
from pathlib import Path

import pytest
import torch
from run_command import run_command
from small_runs import CROP, write_config
from torch import nn

from vil_dense.mm.engine.optim.cpu_amp import CPUAmpOptimWrapper
from vil_dense.mm.utils.safe_load import load_safely


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("options"))


def test_bfloat16_on_the_cpu(config: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    run = tmp_path / "run"
    assert run_command(f"train {config} --work-dir {run} --amp --cfg-options {CROP}", monkeypatch) == 0
    said = capfd.readouterr().out
    loss = float(re.search(r"Iter\(train\) \[2/2\].* loss: ([\d.]+)", said)[1])
    assert loss == pytest.approx(1.4 * math.log(12), rel=5e-2), "two heads that know nothing of twelve classes yet"
    assert "precision: bfloat16" in said
    state = load_safely(str(run / "iter_2.pth"))
    assert {value.dtype for value in state["state_dict"].values()} <= {torch.float32, torch.int64}


def test_only_the_forward_pass_is_in_bfloat16() -> None:
    layer = nn.Linear(4, 4)
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1), accumulative_counts=2)
    with wrapper.optim_context(layer):
        y = layer(torch.ones(1, 4))
        assert y.dtype == torch.bfloat16
    before = layer.weight.clone()
    wrapper.update_params(y.float().sum())
    assert torch.equal(layer.weight, before), "gradients of two steps are added up"
    wrapper.update_params(layer(torch.ones(1, 4)).sum())
    assert not torch.equal(layer.weight, before) and layer.weight.dtype == torch.float32


def test_averaged_weights_are_validated_and_saved(config: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    average = "default_hooks.ema.type=EMAHook default_hooks.ema.momentum=0.3 optim_wrapper.optimizer.lr=0.05"
    assert run_command(f"train {config} --work-dir {tmp_path}/run --cfg-options {average} {CROP}", monkeypatch) == 0
    logged = re.search(r"result: (mIoU [\d.]+, mBIoU [\d.]+, mAcc [\d.]+, aAcc [\d.]+)", capfd.readouterr().out)[1]
    last = load_safely(f"{tmp_path}/run/iter_2.pth")
    name = "decode_head.conv_seg.weight"
    steps = last["ema_state_dict"][f"module.{name}"]
    assert not torch.equal(last["state_dict"][name], steps), "the checkpoint has the average in state_dict"
    assert (
        run_command(
            f"test {config} {tmp_path}/run/iter_2.pth --work-dir {tmp_path}/test --cfg-options {CROP}", monkeypatch
        )
        == 0
    )
    assert f"result: {logged}" in capfd.readouterr().out, "the logged result is that of the average"
