"""Prints parameters and multiply-adds of the network of a config.

Command: python tools/analysis/get_flops.py CONFIG [--shape H W] [--backend NAME]

Prints a line for each part of the network, for one picture. One multiply-add counts 1; element-wise operations are not
counted (see `vil_dense.cost.flops`). Heads that inference does not use count 0. --table2 needs no config: it
counts the block designs of table 2 of the paper in the quadratic form, as the paper does, and in the chunkwise form.
"""

import logging
from typing import TYPE_CHECKING

from vil_dense.command_line import parser

if TYPE_CHECKING:
    from vil_dense.cost.flops import Part

BACKENDS = ["parallel", "chunkwise", "recurrent"]
MOST = 8192
"""Longest side of a picture in px: 262,144 tokens, which take about a minute to count."""
CONVENTION = (
    "one multiply-add = 1 (GMAC, the papers' GFLOPs; twice as many FLOPs); "
    "norms, activations and other element-wise work not counted"
)


def show(parts: "dict[str, Part]") -> None:
    """Prints a table with one line for each part."""
    from vil_dense.cost.flops import total

    print(f"{'part':<28}{'parameters':>14}{'GMAC':>12}{'of it mLSTM':>14}")
    for name, part in {**parts, "total": total(parts)}.items():
        print(f"{name:<28}{part.parameters:>14,}{part.macs / 1e9:>12.3f}{part.operator / 1e9:>14.3f}")


def show_table_2() -> None:
    """Prints the GMAC of each block design in both forms, and their ratios to `uni`."""
    from vil_dense.cost.flops import table_2

    forms = {backend: table_2(backend) for backend in ("parallel", "chunkwise")}
    print("shape: 1 x 3 x 224 x 224, 14 x 14 tokens; ViL-T (v1), 1000 classes")
    print(f"unit: {CONVENTION}")
    print(f"{'design':<18}{'parameters':>12}{'quadratic':>11}{'ratio':>7}{'chunkwise':>11}{'ratio':>7}")
    for design in forms["parallel"]:
        line = f"{design:<18}{forms['parallel'][design].parameters:>12,}"
        for counted in forms.values():
            line += f"{counted[design].macs / 1e9:>11.3f}{counted[design].macs / counted['uni'].macs:>7.2f}"
        print(line)


def main() -> None:
    arguments = parser("Parameters and multiply-adds of a config's network.", config="?")
    arguments.add_argument("--shape", nargs="+", type=int, metavar="PX", help="H W, or one for both (the crop)")
    arguments.add_argument("--backend", choices=BACKENDS, default="chunkwise", help="form of the mLSTM")
    arguments.add_argument("--table2", action="store_true", help="the paper's block designs in both forms")
    args = arguments.parse_args()

    from mmengine.registry import MODELS

    from vil_dense.cost.flops import count
    from vil_dense.cost.step_cost import input_channels
    from vil_dense.mm.cli.arguments import read_config, report_errors, sentence
    from vil_dense.mm.engine.resolve.config import resolve_norm

    with report_errors(args.debug):
        if args.table2:
            show_table_2()
            return
        if args.config is None:
            raise ValueError("get_flops needs a config, or --table2")
        cfg = read_config(args)
        if "plan" in cfg or cfg.get("test_dataloader") is None:
            raise ValueError(f"{args.config} builds a {cfg.model.type}, and a network that labels pictures is counted")
        tested = [step.size for step in cfg.test_dataloader.dataset.pipeline if "size" in step]  # a classifier's
        size = args.shape or list(cfg.model.data_preprocessor.get("size", tested))
        if len(size) > 2 or not 1 <= min(size) <= max(size) <= MOST:
            got = " ".join(map(str, size))
            raise ValueError(f"--shape takes H W, or one number for both, from 1 to {MOST} px; got {got}")
        resolve_norm(cfg, world_size=1, cuda=False)
        model = MODELS.build(cfg.model).eval()
        shape = (1, input_channels(model), size[0], size[-1])
        logging.getLogger("torch._subclasses.fake_tensor").disabled = True  # it prints the traceback of an error
        try:
            parts = count(model, shape, args.backend)
        except RuntimeError as error:
            raise ValueError(f"the network cannot take {size[0]} x {size[-1]} px: {sentence(error)}") from error
        print(f"shape: {' x '.join(map(str, shape))}; mLSTM in its {args.backend} form")
        print(f"unit: {CONVENTION}")
        show(parts)


if __name__ == "__main__":
    main()
