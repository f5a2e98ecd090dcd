"""What a candle history is: series, intervals and their grid, windows, the columns; no I/O, no exchange, no clock."""
