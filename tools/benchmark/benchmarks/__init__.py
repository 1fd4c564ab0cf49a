"""Provides the parts of `tools/benchmark/benchmark.py`: contestants, measurement and report."""
