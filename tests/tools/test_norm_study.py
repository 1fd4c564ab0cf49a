"""The norm that imitates several GPUs: each part of a batch by itself, running statistics of the first and of all."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from bad_data import write_data
from bad_inputs import PICTURES_CONFIG
from refusals import assert_error_line
from run_command import ROOT, run_command
from torch import nn

sys.path.append(str(ROOT / "tools/studies"))

from part_norm import PartNorm, part_norms, split_norms

STUDY = runpy.run_path(str(ROOT / "tools/studies/norm_study.py"))


def pair(parts: int) -> tuple[nn.Module, nn.BatchNorm2d]:
    torch.manual_seed(0)
    own, plain = PartNorm(5, parts, 1e-5, 0.1), nn.BatchNorm2d(5)
    nn.init.normal_(plain.weight)
    own.load_state_dict(plain.state_dict(), strict=False)
    return own, plain


def test_one_part_is_batch_norm() -> None:
    own, plain = pair(1)
    for _ in range(3):
        x = torch.randn(4, 5, 3, 2) * 3 + 1
        torch.testing.assert_close(own(x), plain(x))
    for name in ("running_mean", "mean_of_all"):
        torch.testing.assert_close(getattr(own, name), plain.running_mean)
    for name in ("running_var", "var_of_all"):
        torch.testing.assert_close(getattr(own, name), plain.running_var)
    torch.testing.assert_close(own.eval()(x), plain.eval()(x))


def test_parts_do_not_see_each_other() -> None:
    own, _ = pair(4)
    alone = [pair(1)[0] for _ in range(4)]
    for _ in range(2):
        x = torch.randn(8, 5, 3, 2) * torch.arange(1.0, 9)[:, None, None, None]
        expected = [norm(part) for norm, part in zip(alone, x.chunk(4), strict=True)]
        torch.testing.assert_close(own(x), torch.cat(expected))
    torch.testing.assert_close(own.running_mean, alone[0].running_mean)
    torch.testing.assert_close(own.running_var, alone[0].running_var)
    torch.testing.assert_close(own.mean_of_all, torch.stack([norm.running_mean for norm in alone]).mean(0))
    torch.testing.assert_close(own.var_of_all, torch.stack([norm.running_var for norm in alone]).mean(0))
    first, mean = own.running_var.clone(), own.var_of_all.clone()
    own.swap()
    assert torch.equal(own.running_var, mean) and torch.equal(own.var_of_all, first)


def test_two_values_are_normed_to_their_sign() -> None:
    """What UperNet's 1 x 1 pool gives with two pictures on a GPU: size is lost, as in the report of the study."""
    own, _ = pair(2)
    nn.init.ones_(own.weight)
    x = torch.tensor([1.0, 7.0, 100.0, 101.0]).view(4, 1, 1, 1).expand(4, 5, 1, 1)
    torch.testing.assert_close(own(x)[:, 0].flatten(), torch.tensor([-1.0, 1.0, -1.0, 1.0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("arm", "chosen"), [("whole batch", 0), ("each part", 3), ("1x1 pool alone each part", 1)])
def test_arms_choose_their_norms(arm: str, chosen: int) -> None:
    head = nn.Module()
    head.psp_modules = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(nn.BatchNorm2d(4))])
    model = nn.Module()
    model.decode_head, model.neck = head, nn.Sequential(nn.BatchNorm2d(4))
    assert split_norms(model, 2, STUDY["ARMS"][arm][1]) == chosen
    assert len(part_norms(model)) == chosen


def test_a_run_that_fails_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmengine.optim.build_optim_wrapper", fail)
    config = tmp_path / "config.py"
    config.write_text(PICTURES_CONFIG.format(root=ROOT, data=write_data(tmp_path / "data")))
    assert (
        run_command(f"studies/norm_study {config} --out {tmp_path}/out --parts 1 --steps 1 --every 1", monkeypatch) == 1
    )
    assert_error_line(capsys.readouterr().err, "Cannot allocate memory")
