"""Builds the table of ratios of configs/results/README.md: a row for each rival, a column for each size."""

from collections.abc import Iterator, Sequence

from benchmarks.measure import Result
from benchmarks.reports.report import best, table

TITLES = {"backbone": "forward", "train": "training step", "op": "mLSTM"}
RIVALS = {"official": "official", "vit": "ViT", "mlstm_kernels": "mlstm_kernels", "ours": "chunkwise"}
RIVALS |= {"ours-chunkwise": "chunkwise", "floor": "its own matrix products alone"}
QUANTITIES = {"median_s": "time", "peak_bytes": "memory"}


def summary(rows: Sequence[Result], mode: str) -> str:
    """Returns the table of the rows of a mode, each family in its faster form; an empty string without rows.

    Rows of "ours-triton" come first where it was timed.
    """
    rows = [row for row in rows if row.get("mode", mode) == mode]
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = {row["size"]: best(row["contestants"]) for row in rows if row["variant"] == variant}
        families = {family for found in cells.values() for family in found if family.startswith("ours")}
        for own in sorted(families, key=lambda family: ("triton" not in family, family)):
            for label, values in ratios_of(own, cells):
                shown = [values.get(size, "-") for size in sizes]
                lines.append([f"{variant}, {own}", f"{TITLES.get(mode, mode)}: {label}", *shown])
    return table(["", "", *(size.replace("x", " x ") for size in sizes)], lines) if lines else ""


def ratios_of(own: str, cells: dict[str, dict[str, tuple[str, Result]]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the label and the cells of each row of one family: milliseconds, then ratios."""
    ours = {size: found[own][1] for size, found in cells.items() if own in found}
    yield "ms", {size: f"{1e3 * result['median_s']:.1f}" for size, result in ours.items()}
    for rival, name in RIVALS.items():
        for key, quantity in QUANTITIES.items():
            if rival == own or (rival == "floor" and quantity == "memory"):
                continue
            values = {
                size: f"{result[key] / cells[size][rival][1][key]:.2f}"
                for size, result in ours.items()
                if rival in cells[size] and cells[size][rival][1][key]
            }
            if values:
                yield f"{quantity} / {name}", values
