"""Dagster's own memory: where it is stored, what was left behind in it, how it is kept small; no partition is run here.

The modules of this package, runs and partition_results are the only ones that touch internal interfaces of Dagster.
"""
