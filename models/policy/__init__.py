"""From policy files to compiled schemes and care rules: specifications, compilers, the timeline, cut-offs.

A class that is read from a file is called `…Spec`; what it compiles to is not. A compiled policy never changes.
"""
