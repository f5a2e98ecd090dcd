"""The exchange: what it is asked, what it answers, how often it may be asked, and what an answer proves.

messages (wire and error codes), retry, ratelimit, client, pages, instruments, lives. Nothing here knows a database.
"""
