"""The schema's history, and the one way to bring a database up to date.

`upgrade` holds a lock, so that several servers that start at once do not race; it runs beside the
application's own pools, on a synchronous connection of its own.
"""
