"""Exchanges published models with the Hugging Face Hub, through `huggingface_hub`."""

from pathlib import Path
from types import ModuleType

FILES = ["model.safetensors", "config.json", "README.md"]


def client() -> ModuleType:
    """Returns the package `huggingface_hub`.

    Raises:
        ImportError: it is not installed; says how to install it.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("the Hugging Face Hub needs huggingface_hub: pip install 'vil_dense[hub]'") from error
    return huggingface_hub


def download(repository: str, revision: str | None = None) -> Path:
    """Downloads the files of a published model, and returns their folder; they are cached.

    Raises:
        ImportError: `huggingface_hub` is not installed.
        ValueError: the repository does not exist, or cannot be reached.
    """
    hub = client()
    try:
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, hub.errors.LocalEntryNotFoundError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"{repository} could not be read from the Hugging Face Hub: {why}") from error


def upload(folder: Path, repository: str, *, private: bool = False, message: str = "Upload model") -> str:
    """Uploads a published folder to a repository, which is made where there is none, and returns its address.

    Raises:
        ImportError: `huggingface_hub` is not installed.
    """
    api = client().HfApi()
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=FILES, commit_message=message)
    return str(address)
