"""The parts of `tools/benchmark/benchmark.py`: the contestants, how they are measured, and the report."""
