"""A Bybit on this machine, written from its documentation; imports nothing else of ours.

grid (interval arithmetic), history (what a source of candles offers), instruments (lives and their
wire shape), catalogue and templates and market (the synthetic source), recording and replay
(recorded files as a source), wire (bodies), exchange (request to response), faults, limits, stats,
control (/_sim), transport (for tests), server (loopback).
"""
