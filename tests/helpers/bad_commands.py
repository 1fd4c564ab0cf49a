"""Lists command lines with the bad inputs of `bad_inputs.py`, each with what its line of error must name."""

from bad_data_commands import DATA
from bad_option_commands import OPTIONS
from bad_run_commands import RUNS

CASES = DATA | RUNS | OPTIONS
