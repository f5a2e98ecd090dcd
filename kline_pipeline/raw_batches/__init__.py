"""What arrived: batches of rows as received with their provenance, what is held of a window, and the fetching of what is not.

Nothing here judges or changes a row.
"""
