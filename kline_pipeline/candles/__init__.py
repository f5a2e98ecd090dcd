"""What raw batches mean: the closed, deduplicated, judged candles of a partition, and the working files they wait in.

Nothing here asks the exchange.
"""
