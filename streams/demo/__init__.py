"""The demo: the embedded broker, a year of real baskets, and the live view of what the worker decides.

Only `streams.cli` imports this room. Production needs nothing in it.
"""
