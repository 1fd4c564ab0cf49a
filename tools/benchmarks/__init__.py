"""What `tools/benchmark.py` is made of: the contestants, how they are measured, and the report."""
