"""Chooses the device that a model runs on."""

import torch


def choose_device(device: str | torch.device | None) -> torch.device:
    """Returns the device: by default a GPU where there is one, else the CPU.

    Raises:
        ValueError: there is no such device on this machine.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"device {device} cannot be used, expected cpu, cuda, cuda:N or mps: {why}") from None
    return chosen
