"""Everything that reaches into Faust: consumer, recovery, table, stores, the producer's client.

The risk of a Faust upgrade is in this room; tests/streams/faust_ext pins each internal that it relies on.
"""
