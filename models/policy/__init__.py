"""From policy files to compiled schemes and care rules: specifications, compilers, the timeline, cut-offs.

A class that is read from a file is called `…Spec`; what it compiles to is not. A compiled policy never changes, and all
threads share it. Nothing here knows a customer, except `evaluation`, which pairs one with the policy that holds.
"""
