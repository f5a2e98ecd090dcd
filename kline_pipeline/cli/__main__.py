"""`python -m kline_pipeline.cli`: the command line where its script is not on the PATH, as in processes that we start."""

from kline_pipeline.cli import main

main()
