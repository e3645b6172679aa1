"""The demo: the embedded broker, a year of real baskets, and what a person watches.

Nothing outside `streams.cli` imports this room, and nothing here is needed in production.
"""
