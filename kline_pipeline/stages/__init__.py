"""The stages of the flow over partitions: fill (ask the exchange), derive (and judge), land; their order: pipeline.py.

A stage joins what lies to its left: fetching, candles, rules, sinks, evidence. It fetches, judges and writes nothing
itself.
"""
