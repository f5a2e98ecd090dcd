"""Is it true: one module per rule, each a pure function usable without Dagster, and the shape of a result.

A rule sees what was derived and answers with a CheckResult; what a failed one leads to is decided in pipeline.py.
"""
