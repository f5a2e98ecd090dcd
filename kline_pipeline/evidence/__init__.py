"""What proves it: the coverage ledger, the listings of instruments, the revisions; all in PostgreSQL, whatever the sinks.

Nothing here decides what is right; it keeps what was decided, with its proof.
"""
