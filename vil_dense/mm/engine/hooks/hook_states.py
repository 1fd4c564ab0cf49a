"""Keeps the state of other hooks in checkpoints, which MMEngine does not."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

KEY = "hook_states"
STANDARD = (
    "timer",
    "logger",
    "param_scheduler",
    "checkpoint",
    "sampler_seed",
    "runtime_info",
    "watch",
    "accuracy",
    "stop",
)
"""Keys of `default_hooks` in MMEngine and `configs/_base_/runtime.py`: these hooks restore themselves."""
PLAIN = (bool, int, float, str, type(None))


@HOOKS.register_module()
class HookStateHook(Hook):
    """Saves the numbers and texts that the custom hooks of a run have changed, and restores them in a resumed run.

    `EarlyStoppingHook` counts validations without progress, for instance; without its state a resumed run would stop
    later than the unbroken one. `ViLRunner` adds this hook.
    """

    priority = "LOWEST"

    def before_run(self, runner: Runner) -> None:
        """Notes what the hooks begin with."""
        self.initial = {key: plain_values(hook) for key, hook in custom_hooks(runner).items()}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds what has changed since."""
        states = {}
        for key, hook in custom_hooks(runner).items():
            initial = self.initial.get(key, {})
            states[key] = {k: v for k, v in plain_values(hook).items() if k not in initial or initial[k] != v}
        if changed := {key: state for key, state in states.items() if state}:
            checkpoint[KEY] = changed

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restores it where the run is resumed."""
        states = checkpoint.get(KEY, {}) if runner._resume else {}
        for key, hook in custom_hooks(runner).items():
            for name, value in states.get(key, {}).items():
                if isinstance(value, PLAIN):
                    setattr(hook, name, value)


def custom_hooks(runner: Runner) -> dict[str, Hook]:
    """Returns the hooks that the config of a run adds in either list, by type and number."""
    added = [entry for key, entry in (runner.cfg.get("default_hooks") or {}).items() if key not in STANDARD]
    entries = [*(runner.cfg.get("custom_hooks") or []), *added]
    types = [entry["type"] for entry in entries if isinstance(entry, dict)]
    names = {kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__ for kind in types}
    found: dict[str, Hook] = {}
    for hook in runner.hooks:
        name = type(hook).__name__
        if name in names:
            found[f"{name} {sum(key.startswith(f'{name} ') for key in found)}"] = hook
    return found


def plain_values(hook: Hook) -> dict[str, Any]:
    """Returns the attributes of a hook that are numbers, texts or None."""
    return {name: value for name, value in vars(hook).items() if isinstance(value, PLAIN)}
