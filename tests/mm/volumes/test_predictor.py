"""Tests trained networks for prediction from Python: a config with checkpoints, a work folder, a bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fold_runs import read, seeded, write_cases, write_config
from refusals import raises_one_line

from vil_dense.medical.bundle import write_bundle
from vil_dense.mm.volumes import load_predictor


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes a work folder with config and checkpoint, beside the data and the config that it was made from."""
    root = tmp_path_factory.mktemp("run")
    path = write_config(root / "config.py", write_cases(root / "data", 2))
    seeded(read(path))(0, root / "work")
    return root / "work"


def test_a_config_and_its_run_are_one_network(run: Path) -> None:
    image, checkpoint = run.parent / "data/images/p0_a.nii.gz", run / "iter_2.pth"
    sources = [(run.parent / "config.py", checkpoint), (run,), (run, checkpoint)]
    first, *others = [np.asarray(load_predictor(*source).predict(image).mask.dataobj) for source in sources]
    assert len(np.unique(first)) > 1
    for mask in others:
        np.testing.assert_array_equal(mask, first)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:monai")
def test_a_bundle_is_the_network_of_its_run(run: Path, tmp_path: Path) -> None:
    image, predictor = run.parent / "data/images/p0_a.nii.gz", load_predictor(run)
    segmentor = predictor.configurations[0].networks[0]
    network = read(run.parent / "config.py").model.network
    write_bundle(tmp_path / "bundle", segmentor.plan, network, segmentor.network, windows=segmentor.windows)
    masks = [np.asarray(each.predict(image).mask.dataobj) for each in (predictor, load_predictor(tmp_path / "bundle"))]
    np.testing.assert_array_equal(*masks)
    with raises_one_line(ValueError, tmp_path / "bundle", "checkpoint"):
        load_predictor(tmp_path / "bundle", run / "iter_2.pth")


def test_several_checkpoints_are_averaged(run: Path, tmp_path: Path) -> None:
    state = torch.load(run / "iter_2.pth", weights_only=True)["state_dict"]
    torch.save(dict(state_dict={name: -value for name, value in state.items()}), tmp_path / "other.pth")
    both = load_predictor(run, run / "iter_2.pth", tmp_path / "other.pth", largest=True)
    assert len(both.configurations[0].networks) == 2 and both.steps


def test_what_is_refused(run: Path, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "nowhere"):
        load_predictor("nowhere", run / "iter_2.pth")
    with raises_one_line(FileNotFoundError, "nowhere"):
        load_predictor("nowhere")
    with raises_one_line(ValueError, run.parent / "config.py", "checkpoints"):
        load_predictor(run.parent / "config.py")
    with raises_one_line(ValueError, "best.json is a choice", "checkpoint"):
        load_predictor("best.json", run / "iter_2.pth")
    with raises_one_line(FileNotFoundError, tmp_path):
        load_predictor(tmp_path)
    (tmp_path / "config.py").write_text("model = dict(type='EncoderDecoder')")
    with raises_one_line(ValueError, tmp_path / "config.py", "EncoderDecoder"):
        load_predictor(tmp_path / "config.py", run / "iter_2.pth")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.py").write_text((run.parent / "config.py").read_text())
    with raises_one_line(FileNotFoundError, "last_checkpoint"):
        load_predictor(tmp_path / "other")
