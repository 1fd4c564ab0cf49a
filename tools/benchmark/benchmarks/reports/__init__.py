"""Writes tables, plots and files of measured results."""
