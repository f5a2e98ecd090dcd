"""The stages of the flow over many partitions: fill (ask the exchange), derive (and judge), land; their order is in pipeline.py.

A stage joins what lies to its left: fetching, candles, rules, sinks, evidence. It fetches, judges and writes nothing itself.
"""
