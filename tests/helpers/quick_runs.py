"""Leaves out of runs what takes a second of each and has tests of its own."""

import pytest


def quicken_runs(patch: pytest.MonkeyPatch) -> None:
    """Leaves out of the runs of this process, until `patch` is undone: asking compilers for their versions, formatting
    the config, and counting the memory of a step. Processes that a test starts have all of them."""
    from mmengine.runner import Runner

    patch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
    patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **options: (text, False))
    patch.setattr("vil_dense.mm.engine.runner.describe_training_memory", lambda runner: [])
