"""The migrations of schema `kline`, run by database/migrate.py through alembic; package data of the wheel."""
