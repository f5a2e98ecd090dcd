"""PostgreSQL: the engine, the embedded server, our tables and migrations, locks, venue, and the shared budget.

What the rows mean is told in evidence/ and sinks/; Dagster's own tables live beside ours and are Dagster's business.
"""
