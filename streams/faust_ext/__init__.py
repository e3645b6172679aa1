"""Everything that subclasses Faust or reaches into it: consumer, recovery, table, stores.

The risk of a Faust upgrade lives in this room, and tests/streams/faust_ext pins each internal that it relies on.
No decision about customers is taken here.
"""
