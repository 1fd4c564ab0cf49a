"""Leaves out of runs what takes a second of each and has tests of its own."""

from types import SimpleNamespace

import pytest


def quicken_runs(patch: pytest.MonkeyPatch) -> None:
    """Leaves out of the runs of this process, until `patch` is undone: asking compilers for their versions, formatting
    the config, counting the memory of a step and timing it, and a garbage collection in each data set.

    Processes that a test starts have all of them.
    """
    from mmengine.runner import Runner

    patch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
    patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **options: (text, False))
    patch.setattr("vil_dense.mm.engine.runner.describe_training_memory", lambda runner: [])
    patch.setattr("vil_dense.mm.engine.runner.describe_training_time", lambda runner: "")
    patch.setattr("mmengine.dataset.base_dataset.gc", SimpleNamespace(collect=lambda: 0))
