"""Tests the Hugging Face Hub: a local folder of its form, and uploads to a client that is put in its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import raises_one_line
from sliding_models import WHOLE, segmentor, small_config

from vil_dense.mm import Segmentor
from vil_dense.mm.publish.trained_model import with_checkpoint

hub = pytest.importorskip("huggingface_hub", reason="exchanges models with the Hugging Face Hub")


@pytest.fixture
def loaded(tmp_path: Path) -> Segmentor:
    torch.save(dict(state_dict=segmentor(WHOLE).float().state_dict()), tmp_path / "x.pth")
    return Segmentor(with_checkpoint(small_config(WHOLE), str(tmp_path / "x.pth")), device="cpu", own_size=True)


def test_up_and_down(loaded: Segmentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that what is uploaded gives, downloaded, the same mask, and asks for these files alone."""
    stored, asked = tmp_path / "stored", []

    class Client:
        def create_repo(self, repository: str, **options: object) -> str:
            asked.append((repository, options))
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: object) -> None:
            asked.append((repo_id, options["allow_patterns"]))
            folder_path.rename(stored)

    def snapshot(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, allow_patterns))
        return str(stored)

    monkeypatch.setattr(hub, "HfApi", Client)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    address = loaded.push_to_hub("me/street", private=True, licence="apache-2.0")
    assert address == "https://huggingface.co/me/street"
    files = ["model.safetensors", "config.json", "README.md"]
    assert sorted(path.name for path in stored.iterdir()) == sorted(files)
    assert "# street" in (stored / "README.md").read_text()
    found = Segmentor.from_pretrained("me/street", revision="v1", device="cpu", own_size=True)
    assert asked == [
        ("me/street", dict(private=True, exist_ok=True)),
        ("me/street", files),
        ("me/street", "v1", files),
    ]
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(found.predict(image).mask, loaded.predict(image).mask)
    local = Segmentor.from_pretrained(str(stored), device="cpu", own_size=True)
    np.testing.assert_array_equal(local.predict(image).mask, loaded.predict(image).mask)


def test_repositories_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises_one_line(ValueError, tmp_path):
        Segmentor.from_pretrained(str(tmp_path))
    with raises_one_line(ValueError, "not a/name at all"):
        Segmentor.from_pretrained("not a/name at all")

    def offline(*args: object, **options: object) -> str:
        raise hub.errors.LocalEntryNotFoundError("there is no connection\nand more")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with raises_one_line(ValueError, "me/street", "no connection"):
        Segmentor.from_pretrained("me/street")
