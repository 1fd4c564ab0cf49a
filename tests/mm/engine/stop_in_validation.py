"""Validates 12 pictures and 20 for `test_distributed.py`, by torchrun; SIGTERM comes to the second process.

`stop_in_validation.py FOLDER PICTURE`: while it looks at that one, from 0. Each process says how it ends.
"""

import os
import signal
import sys
from pathlib import Path

import test_preemption
import torch
from torch import distributed
from torch.utils.data import DataLoader

from vil_dense.mm.engine.failures import resume_point


class Told(list):
    """Holds pictures; SIGTERM comes to this process as one of them is read."""

    def __init__(self, count: int, at: int | None) -> None:
        super().__init__([dict(inputs=torch.zeros(3))] * count)
        self.at = at

    def __getitem__(self, index: int) -> dict:
        if index == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


folder, picture = Path(sys.argv[1]), int(sys.argv[2])
distributed.init_process_group("gloo")
rank = distributed.get_rank()
pictures = Told(20, picture) if rank else Told(12, None)
loop = dict(type="IterBasedTrainLoop", max_iters=6, val_interval=4)
run = test_preemption.runner(folder, val=DataLoader(pictures, batch_size=1), **loop)
try:
    run.train()
except SystemExit as end:
    # In one piece: both write to the same pipe.
    sys.stdout.write(f"process {rank}: code {end.code}, step {run.iter}, {Path(resume_point(folder)).name}\n")
