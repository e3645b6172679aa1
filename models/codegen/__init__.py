"""Generated functions: the rules of a policy as one Python function each, for speed.

`source.py` holds the only `exec`. Every function here has a plain counterpart in `models.rules`, and a test that
compares the two.
"""
