"""What arrived: batches of rows as received with their provenance, and the fetching of what is not held.

Nothing here judges or changes a row.
"""
