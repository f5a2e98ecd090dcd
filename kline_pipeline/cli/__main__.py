"""`python -m kline_pipeline.cli`: the command line where its script is not on the PATH."""

from kline_pipeline.cli import main

main()
