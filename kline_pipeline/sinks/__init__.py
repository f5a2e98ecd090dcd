"""Where good candles land: the PostgreSQL table and the Parquet snapshots; whether they may land is decided before.

A sink is idempotent, trusts what it reads back and not the ledger, and steps back before a higher generation.
"""
