"""Chooses configuration, ensemble and post-processing from cross-validations, by their out-of-fold masks alone.

Command: python tools/volumes/find_best.py CV_DIR [CV_DIR ...] --out best.json

CV_DIR is the folder of a finished cross_validate.py; all are of the same cases. Tries each of them, each pair (mean of
probabilities, if both were run with --probabilities), and for each structure: filling its holes, keeping its largest
component, removing components below 0.01, 0.1, 1 or 10 ml. Mean Dice decides; the rule for what is more than noise is
printed. The networks of all folds of what is chosen are used by

  python tools/volumes/predict.py --best best.json INPUT --out DIR
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vil_dense.command_line import plain_parser
from vil_dense.files import check_file

if TYPE_CHECKING:
    from vil_dense.medical.selection import Members, Selection


def describe(dice: float, interval: list[float] | None) -> str:
    """Returns a mean Dice and its interval."""
    return f"Dice {dice:.4f}" + (f" (95 %: {interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def choice_report(selection: "Selection", members: "Members", steps: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns what was tried and chosen, with its Dice before and after the steps."""
    from vil_dense.medical.selection import RULE

    def names(numbers: "Members") -> list[str]:
        return [selection.of_runs[number] for number in numbers]

    tried = [dict(configurations=names(one)) | selection.describe(selection.plain[one]) for one in selection.members]
    return dict(
        rule=RULE,
        cases=len(selection.names),
        patients=len(set(selection.patients.tolist())),
        tried=tried,
        chosen=names(members),
        before_steps=selection.describe(selection.plain[members]),
        after_steps=selection.describe(selection.table(members, steps)),
        nested=selection.nested(),
    )


def main() -> int:
    parser = plain_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="CV_DIR", help="folder of a finished cross-validation")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()

    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        check_file(args.out)
        from vil_dense.medical.cross_validations import check_same_cases, read_cross_validation, write_chosen
        from vil_dense.medical.selection import Selection

        runs = [read_cross_validation(folder) for folder in args.runs]
        check_same_cases(runs)
        with Progress("cases") as progress:
            selection = Selection(runs, lambda what, done, total: progress(done, total, what))
            members, steps = selection.choose()
            report = choice_report(selection, members, steps)
        write_chosen(args.out, [runs[index] for index in members], steps, report)
        for tried in report["tried"]:
            print(f"{' + '.join(tried['configurations'])}: {describe(tried['dice'], tried['dice_95'])}")
        if len(selection.members) < len(runs) * (len(runs) + 1) // 2:
            print(
                "warning: pairs without probabilities were not tried: cross_validate.py --probabilities",
                file=sys.stderr,
            )
        print(f"chosen: {' + '.join(report['chosen'])}")
        for name, own in steps.items():
            print(f"  {name}: {', '.join(f'{key} {value}' for key, value in own.items())}")
        before, after = report["before_steps"], report["after_steps"]
        print(f"  post-processing: {describe(before['dice'], before['dice_95'])}, then {after['dice']:.4f}"
              if steps else "  no post-processing: no step helps beyond noise")  # fmt: skip
        print(f"rule: {report['rule']}")
        if nested := report["nested"]:
            print(
                f"Dice of each fold with the choice that is made without it: {nested['dice']:.4f} (the choice is the "
                f"same without {nested['same']} of {nested['folds']} folds)"
            )
        print(f"choice: {args.out} ({report['cases']} cases of {report['patients']} patients)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
