"""What Dagster sees of the pipeline: assets, checks, resources, the instance and its runs; no rule about candles lives here."""
