"""The exchange: what it is asked and answers, how often, and what an answer proves. Nothing here knows a database.

In the order of a question: client (the questions), pages (which windows), asking (paid, retried, counted) with retry,
ratelimit (pace, file_budget, limit_headers) and auth, connection (HTTP), messages and refusals (what came back).
instruments, edges and lives find when an instrument was listed; cache keeps pages that can change no more.
"""
