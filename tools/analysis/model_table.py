"""Compares parameters and multiply-adds of all ImageNet configs with the paper.

Command: python tools/analysis/model_table.py [--out FILE.csv]

Prints a Markdown table of configs/vil_imagenet.py and configs/imagenet; --out also writes it as CSV.
Differences from the paper are marked in the last column.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vil_dense.command_line import plain_parser
from vil_dense.files import save_csv

if TYPE_CHECKING:
    from mmengine.config import Config

    from vil_dense.cost.flops import Part

CONFIGS = Path(__file__).parents[2] / "configs"
LEGEND = (
    "GMAC: one multiply-add counts 1; the paper counts the quadratic form, the chunkwise one is what runs. The paper's "
    "FLOPs include the norms, ours do not (under 1 %); of v2 it counts the causal half of the mLSTM's squares."
)
HEADER = ("run", "px", "tokens", "parameters", "paper", "GMAC quadratic", "GMAC chunkwise", "paper", "top-1", "note")


class Paper(NamedTuple):
    """Stores numbers as printed: parameters in millions, GFLOPs or (table 2) FLOPs relative to `uni`, top-1 in %."""

    parameters: str = ""
    flops: str = ""
    top1: str = ""


PAPER = {
    "vil_imagenet": Paper("6M", "", "77.3"),
    "vil-t_400e_in1k-224": Paper("6M", "", "76.1"),
    "vil-t-plus_800e_in1k-224": Paper("7M", "", "78.1"),
    "vil-t-plus_400e_in1k-224": Paper("7M", "", "77.2"),
    "vil-s_400e_in1k-224": Paper("23M", "", "80.7"),
    "vil-s-plus_400e_in1k-224": Paper("26M", "", "80.9"),
    "vil-b_400e_in1k-224": Paper("88M", "", "81.6"),
    "vil-l_400e_in1k-224": Paper(),
    "vil-t-plus-stride8_30e_in1k-224": Paper("7M", "", "80.0"),
    "vil-s-plus-stride8_30e_in1k-224": Paper("26M", "", "82.2"),
    "vil-b-stride8_30e_in1k-224": Paper("88M", "", "82.7"),
    "vil2-t_800e_in1k-192": Paper("", "", "77.0"),
    "vil2-t_400e_in1k-192": Paper("", "", "75.9"),
    "vil2-t_800e-20e_in1k-224": Paper("", "1.5G", "78.3"),
    "vil2-t_400e-20e_in1k-224": Paper("", "1.5G", "77.2"),
    "vil2-s_400e_in1k-192": Paper("", "", "80.5"),
    "vil2-s_400e-20e_in1k-224": Paper("", "5.1G", "81.5"),
    "vil2-b_400e_in1k-192": Paper("", "", "81.5"),
    "vil2-b_400e-5e_in1k-224": Paper("", "18.6G", "82.4"),
    "vil-t_uni_400e_in100-128": Paper("6.1M", "1.0x", "72.8"),
    "vil-t_bi_400e_in100-128": Paper("6.5M", "1.4x", "74.8"),
    "vil-t_bi-shared_400e_in100-128": Paper("6.1M", "1.4x", "73.3"),
    "vil-t_bi-alternating_400e_in100-128": Paper("6.1M", "1.0x", "74.8"),
    "vil-t_quad_400e_in100-128": Paper("7.3M", "2.3x", "76.3"),
    "vil-t_quad-shared_400e_in100-128": Paper("6.1M", "2.3x", "72.8"),
    "vil-t_quad-alternating_400e_in100-128": Paper("6.1M", "1.0x", "75.6"),
    "vil-t_average_400e_in1k-192": Paper("", "", "75.4"),
    "vil-t_middle-patch_400e_in1k-192": Paper("", "", "75.9"),
    "vil-t_middle-cls_400e_in1k-192": Paper("", "", "75.3"),
    "vil-t_bilateral-average_400e_in1k-192": Paper("", "", "75.9"),
    "vil-t_bilateral-concat_400e_in1k-192": Paper("", "", "76.4"),
    "hiervil-t_300e_in1k-224": Paper(),
    "deit3-t_800e_in1k-192": Paper("6M"),
    "deit3-t_400e_in1k-192": Paper("6M"),
    "deit3-t_800e-20e_in1k-224": Paper("6M", "", "76.2"),
    "deit3-t_400e-20e_in1k-224": Paper("6M", "", "75.6"),
    "deit3-t-stride8_30e_in1k-224": Paper("6M", "", "78.3"),
}
"""Tables 1 to 3 and appendix A.2 (arXiv 2406.04303 version 1); v2 from its later versions, at 192 px from the authors'
logs; 400 epochs of ViL-T from their README."""


class Count(NamedTuple):
    """Stores the side of the input in px, its tokens, and the totals of the network in both forms."""

    px: int
    tokens: int
    quadratic: "Part"
    chunkwise: "Part"


def measured(cfg: "Config", size: int | None = None, classes: int | None = None) -> Count:
    """Counts the network of a classifier's config; size and number of classes are those of the config by default.

    The tokens of a hierarchical network are those at stride 16.
    """
    import torch

    from vil_dense.backbones import VisionLSTM, build_classifier
    from vil_dense.cost.flops import count, total

    size = size or next(step["size"] for step in cfg.val_dataloader.dataset.pipeline if "size" in step)
    options = {key: value for key, value in cfg.model.items() if key not in ("type", "data_preprocessor", "init_cfg")}
    if "grid" in options:
        options["grid"] = (size // 16, size // 16)
    options["num_classes"] = classes or options["num_classes"]
    with torch.device("meta"):
        net = build_classifier(options.pop("variant"), **options).eval()
    net.to_empty(device="cpu")  # never read: L costs no memory
    forms = [total(count(net, (1, 3, size, size), form)) for form in ("parallel", "chunkwise")]
    grid = net.patch_embed.grid((size, size)) if isinstance(net, VisionLSTM) else (-(-size // 16),) * 2
    return Count(size, torch.Size(grid).numel(), *forms)


def rows() -> list[tuple]:
    """Returns the rows of the table; block designs have two, at their own size and at that of the paper's numbers."""
    from vil_dense.mm.cli.arguments import load_config

    runs = [path for kind in ("vil*.py", "hiervil*.py", "deit3*.py") for path in (CONFIGS / "imagenet").rglob(kind)]
    files = {path.stem: path for path in [CONFIGS / "vil_imagenet.py", *runs]}
    if unknown := set(files) ^ set(PAPER):
        raise ValueError(f"model_table and configs/imagenet do not agree on {', '.join(sorted(unknown))}")
    uni = measured(load_config(files["vil-t_uni_400e_in100-128"]), 224, 1000).quadratic.macs
    table = []
    for name, paper in PAPER.items():
        cfg = load_config(files[name])
        if files[name].parent.name == "designs":
            table.append(row(f"{name} (1000 classes)", measured(cfg, 224, 1000), paper._replace(top1=""), uni))
            paper = Paper(top1=paper.top1)
        table.append(row(name, measured(cfg), paper, uni))
    return table


def row(name: str, ours: Count, paper: Paper, uni: int) -> tuple:
    """Returns a row of the table; our numbers are rounded to the digits of the paper before the comparison."""
    notes = []
    if paper.parameters:
        notes += differs(ours.quadratic.parameters / 1e6, paper.parameters, "M parameters")
    if paper.flops.endswith("x"):
        notes += differs(ours.quadratic.macs / uni, paper.flops, " times uni's GMAC")
    elif paper.flops:
        # the later versions count the causal half of the squares
        notes += differs((ours.quadratic.macs - ours.quadratic.operator / 2) / 1e9, paper.flops, " GMAC, causal half")
    forms = [f"{form.macs / 1e9:.3f}" for form in ours[2:]]
    if paper.flops.endswith("x"):
        forms[0] += f" ({ours.quadratic.macs / uni:.2f}x)"
    numbers = (ours.px, ours.tokens, f"{ours.quadratic.parameters:,}", paper.parameters, *forms, paper.flops)
    return (name, *numbers, paper.top1, "; ".join(notes))


def differs(ours: float, printed: str, unit: str) -> list[str]:
    """Returns a note if `ours`, rounded to the digits of `printed`, is another number."""
    digits = printed.rstrip("MGx")
    decimals = len(digits.partition(".")[2])
    if f"{ours:.{decimals}f}" == digits:
        return []
    return [f"DIFFERS: {ours:.{max(decimals, 1)}f}{unit} here, {printed} in the paper"]


def markdown(table: list[tuple]) -> str:
    """Formats the table with its legend as Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *table]
    return "\n".join(["| " + " | ".join(map(str, line)) + " |" for line in lines] + ["", LEGEND])


def save(path: Path, table: list[tuple]) -> None:
    """Writes the table as CSV, with a name of its own for each column."""
    keys = (*HEADER[:4], "paper's parameters", *HEADER[5:7], "paper's FLOPs", *HEADER[8:])
    save_csv(path, [dict(zip(keys, line, strict=True)) for line in table])


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors

    with report_errors(args.debug):
        table = rows()
        print(markdown(table))
        if args.out:
            save(args.out, table)


if __name__ == "__main__":
    main()
