"""The pipeline as Dagster sees it: assets, checks, resources, range runs; what a stage does is told in pipeline.py.

assets makes the four assets of a dataset, checks the three checks of its candles; partition_results is the only module
that touches the preview interfaces of Dagster for results per partition, runs and instance those for running a range.
"""
