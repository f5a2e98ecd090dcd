"""The cache of pages that can change no more, for `fetch`, `latest` and the notebook.

page_cache (what the others use), entries (how one looks), stores (a folder) and redis_store, upkeep (size, counts).
"""
