"""Measures which sequence blocks solve a dense task whose classes can be known from far away only.

Command: python tools/studies/long_range.py --out DIR [--cases NAME ...] [--blocks NAME ...]

Each picture (volume) is a map with a legend in one corner (vil_dense/synthetic/legends.py). The network is a HierViL of
one stage at stride 4, with a linear head; only the sequence blocks differ. All maps nearer to the legend than the
receptive field of the convolutions are ignored, so `dwconv` and `identity` can only guess: 25 %.

A run ends when its accuracy in training has reached 90 %, after its steps, or after --minutes of CPU time. Before and
after it 64 maps are classified that no training sees. `2d-large` begins with the weights of `2d`. `times` times a
training step at several sizes. Writes long_range.json and long_range.md after each run, and the weights; finished runs
are not repeated.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vil_dense.command_line import plain_parser
from vil_dense.files import read_json, save_json, write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

BLOCKS = ("vil", "attention", "dwconv", "identity")


class Case(NamedTuple):
    """Describes a task and its training: `batch` maps a step, at most `steps`; `start` names the task whose weights the
    training begins with; the others are arguments of `make_map`."""

    size: tuple[int, ...]
    batch: int = 8
    steps: int = 1200
    colours: int = 1
    distance_px: int = 20
    square_px: int = 16
    start: str = ""

    @property
    def tokens(self) -> int:
        """Returns the tokens of a map at stride 4."""
        count = 1
        for side in self.size:
            count *= -(-side // 4)
        return count


CASES = {
    "2d": Case((64, 64)),
    "3d": Case((44, 24, 24)),
    "2d-large": Case((256, 256), batch=2, steps=100, distance_px=80, square_px=64, start="2d"),
}
"""The tasks by name; `2d-large` has 16 times the tokens of `2d`."""

TIMED_PX = (64, 128, 256, 512)
"""Sides of the maps with which a training step is timed."""

RATES = dict(vil=5e-3, attention=2e-3, dwconv=5e-3, identity=5e-3)
"""Learning rates, of a few trials; they fall to zero after a fifth of the steps."""
ENOUGH = 0.9


def build(block: str, ndim: int, dim: int = 32, depth: int = 2) -> "nn.Module":
    """Builds the network, (B, 3, *size) -> logits (B, 4, *size / 4), with `depth` sequence blocks of `dim` channels."""
    from torch import nn

    from vil_dense.backbones import HierViL
    from vil_dense.synthetic.legends import CLASSES

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options: dict[str, Any] = dict(recompute=False) if block == "vil" else {}
            self.backbone = HierViL(
                dims=(dim,), depths=(depth,), sequence=block, sequence_strides=(4,), ndim=ndim, **options
            )
            self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, len(CLASSES)))

        def forward(self, x: "Tensor") -> "Tensor":
            (x,) = self.backbone.features(x, (0,))
            return self.head(x.movedim(1, -1)).movedim(-1, 1)

    return Network()


def draw(case: Case, seed: int, number: int) -> "tuple[Tensor, Tensor]":
    """Draws `number` maps and their classes at stride 4; the same for the same seed."""
    import numpy as np
    import torch

    from vil_dense.synthetic.legends import make_map

    rng = np.random.default_rng(seed)
    maps = [
        make_map(case.size, rng, distance_px=case.distance_px, square_px=case.square_px, colours=case.colours)
        for _ in range(number)
    ]
    images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*maps, strict=True))
    for axis in range(1, labels.ndim):
        labels = labels.index_select(axis, torch.arange(0, labels.shape[axis], 4))
    return images, labels.long()


def accuracy(logits: "Tensor", labels: "Tensor") -> float:
    """Returns the fraction of pixels with a class whose logits are right."""
    from vil_dense.synthetic.legends import IGNORED

    return float((logits.argmax(1) == labels)[labels != IGNORED].float().mean())


def train(
    network: "nn.Module", block: str, case: Case, minutes: float, *, enough: float = ENOUGH, seed: int = 0
) -> dict[str, Any]:
    """Trains a network; returns accuracy on new maps before and after, steps, CPU seconds, and those of a step."""
    import torch
    from torch import nn

    from vil_dense.progress import Progress
    from vil_dense.synthetic.legends import IGNORED

    before, rate = evaluate(network, case), RATES[block] * (0.2 if case.start else 1)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    recent: list[float] = []
    start, seconds = time.process_time(), 0.0
    with Progress(f"{block}, {case.tokens} tokens") as progress:
        for step in range(1, case.steps + 1):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, step / 20, 1.25 * (1 - (step - 1) / case.steps))
            images, labels = draw(case, seed * 10**6 + step, case.batch)
            begin = time.process_time()
            logits = network(images)
            loss = nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            seconds += time.process_time() - begin
            recent = [*recent[-24:], accuracy(logits, labels)]
            mean = sum(recent) / len(recent)
            progress(step, case.steps, f"accuracy {mean:.2f}")
            if (len(recent) == 25 and mean > enough) or time.process_time() - start > 60 * minutes:
                break
    return dict(
        before=before,
        accuracy=evaluate(network, case),
        steps=step,
        cpu_s=round(time.process_time() - start, 1),
        cpu_s_per_step=round(seconds / step, 4),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def evaluate(network: "nn.Module", case: Case, number: int = 64) -> float:
    """Returns the accuracy on `number` maps of seeds that no training uses."""
    import torch

    network.eval()
    with torch.no_grad():
        found = [accuracy(network(x), y) for x, y in (draw(case, 10**9 + index, 2) for index in range(number // 2))]
    return round(sum(found) / len(found), 4)


def run(name: str, block: str, out: Path, minutes: float) -> dict[str, Any]:
    """Runs one network on a task, from the weights of an earlier task if the task says so, and saves its weights.

    Raises:
        FileNotFoundError: the earlier task has not been run.
    """
    import torch

    from vil_dense.state_files import read_state, write_state

    case = CASES[name]
    torch.manual_seed(0)
    network = build(block, len(case.size))
    if case.start:
        earlier = out / f"{case.start}_{block}.safetensors"
        if not earlier.exists():
            raise FileNotFoundError(
                f"no file {earlier}: run --cases {case.start} first, whose weights {name} begins with"
            )
        network.load_state_dict(read_state(str(earlier)))
    found = train(network, block, case, minutes)
    write_state(network.state_dict(), out / f"{name}_{block}.safetensors")
    return found


def step_seconds(block: str, side: int) -> float:
    """Returns the CPU seconds of a training step with one map of `side` px, the second of two."""
    import torch

    network, images = build(block, 2), torch.zeros(1, 3, side, side)
    for _ in range(2):
        start = time.process_time()
        network(images).square().mean().backward()
    return round(time.process_time() - start, 4)


def markdown(content: dict[str, Any]) -> str:
    """Formats runs and times as Markdown tables."""
    lines = ["| task | tokens | block | accuracy before, % | after, % | steps | CPU s | CPU s a step |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, blocks in content["runs"].items():
        for block, found in blocks.items():
            cells = (name, CASES[name].tokens, block, f"{100 * found['before']:.0f}", f"{100 * found['accuracy']:.0f}")
            numbers = (found["steps"], f"{found['cpu_s']:.0f}", f"{found['cpu_s_per_step']:.3f}")
            lines.append("| " + " | ".join(map(str, (*cells, *numbers))) + " |")
    if content["times"]:
        lines += ["", "| tokens | " + " | ".join(f"{block}, CPU s a step" for block in content["times"]) + " |"]
        lines.append("|---|" + "---|" * len(content["times"]))
    for side in TIMED_PX if content["times"] else ():
        times = [f"{sides[str(side)]:.3f}" if str(side) in sides else "" for sides in content["times"].values()]
        lines.append("| " + " | ".join([str((side // 4) ** 2), *times]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for long_range.json and long_range.md")
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "times"], default=[*CASES, "times"])
    parser.add_argument("--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--minutes", type=float, default=5.0, help="CPU time that a run may take (5)")
    args = parser.parse_args()

    import torch

    from vil_dense.mm.cli.arguments import report_errors

    torch.set_num_threads(1)
    path = args.out / "long_range.json"

    def save() -> None:
        save_json(path, content)
        write_whole(args.out / "long_range.md", lambda part: part.write_text(markdown(content), encoding="utf-8"))

    with report_errors(args.debug):
        content = read_json(path) if path.exists() else dict(runs={}, times={})
        for name in [name for name in args.cases if name in CASES]:
            for block in args.blocks:
                if block not in content["runs"].setdefault(name, {}):
                    content["runs"][name][block] = run(name, block, args.out, args.minutes)
                    save()
                    print(f"{name}, {block}: {content['runs'][name][block]}", flush=True)
        for side in TIMED_PX if "times" in args.cases else ():
            for block in args.blocks:
                if str(side) not in content["times"].setdefault(block, {}):
                    content["times"][block][str(side)] = step_seconds(block, side)
                    save()
        print(markdown(content), end="")


if __name__ == "__main__":
    main()
