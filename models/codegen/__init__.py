"""Generated functions: the rules of a policy as one Python function each, for speed.

`source.py` holds the only `exec`. Each form has a plain counterpart in `models.rules` and a test that
compares the two; it must make the processor at least 8 % faster to stay.
"""
