"""Provides the cases and contestants of a benchmark: our networks and operators, and their peers."""
