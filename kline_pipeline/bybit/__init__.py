"""The exchange: what it is asked and answers, how often, and what an answer proves.

messages (wire and error codes), connection, retry, ratelimit, client, pages, instruments, edges,
lives. Nothing here knows a database.
"""
