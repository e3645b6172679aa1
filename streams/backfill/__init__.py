"""History decided in bulk: read in parts, spread over shards of customers, decided, sorted and written.

`plan` says what is read, `scatter` decodes it, `gather` decides, `runs` sorts, `job` has all of it done in
several processes and resumes what was interrupted. A customer's whole history is decided at once: nothing in a policy
makes one customer depend on another. Where something does, time must go step by step for all of them together, which
is what `streams.replay` does.
"""
