"""Plans the training on a folder of volumes.

Command: python tools/volumes/plan.py DATA --out plan.json [--set KEY=VALUE ...]

Reads and checks every file once and writes a JSON, which may be edited. The next command is
python tools/train.py configs/vil_unet3d_volumes.py --cfg-options data_root=DATA plan=plan.json
"""

import argparse
import sys
from pathlib import Path

from vil_dense.command_line import Overrides, at_least, plain_parser
from vil_dense.files import check_file, save_json


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", help="folder of the data set")
    parser.add_argument("--datalist", help="JSON in place of the folder's dataset.json; its paths are relative to DATA")
    parser.add_argument("--unlabelled", action="store_true", help="plan a pretraining: DATA holds volumes, no labels")
    parser.add_argument("--out", type=Path, default=Path("plan.json"), help="file to write")
    parser.add_argument("--patch-budget", type=at_least(1), default=96**3, help="most voxels of a patch (default 96^3)")
    parser.add_argument(
        "--set", nargs="+", action=Overrides, default={}, help="values that replace those of the rules, key=value"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmengine.config import Config

    from vil_dense.medical.data.plan import make_plan
    from vil_dense.medical.datalists.datalist import read_datalist
    from vil_dense.medical.datalists.inputs import read_unlabelled
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        check_file(args.out)
        values = Config(dict())
        values.merge_from_dict(args.set)
        names = args.set.get("channels") or [""]
        count = 1 if isinstance(names, str) else len(names)
        with Progress("reading") as progress:
            made = make_plan(
                read_unlabelled(args.data, args.datalist, count)
                if args.unlabelled
                else read_datalist(args.data, args.datalist),
                set_values=values.to_dict(),
                patch_budget_vox=args.patch_budget,
                report=progress,
            )
        save_json(args.out, made)
        plan, cost = made["plan"], made["cost"]
        classes, channels = (", ".join(plan[key]) for key in ("labels", "channels"))
        print(f"cases: {made['data']['cases']}, classes: {classes}, channels: {channels}")
        print(f"spacing: {plan['spacing_mm']} mm, median size {plan['median_size_vox']} voxels")
        print(
            f"patch: {plan['patch_vox']} voxels, batch {plan['batch_size']}; intensity: {plan['intensity'][0]['rule']}"
        )
        print(f"sequence blocks: {plan['network']['depths']} at the scales, tokens of a patch {cost['tokens']}")
        print(f"memory of a training step: about {cost['training_gib']} GiB in float32")
        sided = made["data"]["sided"]
        why = f", not left and right because of {', '.join(sided[:4])}{', ...' * (len(sided) > 4)}" if sided else ""
        print(f"mirrored along: axes {plan['flip_axes']}{why} (--set flip_axes=[...] overrides)")
        for line in made["warnings"]:
            print(f"warning: {line}", file=sys.stderr)
        print(f"plan: {args.out}")


if __name__ == "__main__":
    main()
