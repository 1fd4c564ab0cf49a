"""Tells what a network costs: FLOPs, and memory and time of a step before it runs, for any network."""
