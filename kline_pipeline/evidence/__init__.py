"""What proves it: the coverage ledger, listings of instruments, revisions; all in PostgreSQL, whatever the sinks.

Nothing here decides what is right; it keeps what was decided, with its proof.
"""
