"""The name of our code location, by which the UI and the daemon find the job of a run; it is that of workspace.yaml."""

from typing import Final

LOCATION_NAME: Final = "kline_pipeline"
