"""Straight from the exchange, without a database: a range of candles, or the last N; complete, or an exception.

source (pages, from the cache where they are there), proof (what one page proves), candles (a range), latest. The
pipeline does not come here: it has its raw batches and never reads evidence from a cache.
"""
