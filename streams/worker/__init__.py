"""Start here: the live process. The Faust app, the loop over batches, ownership, watermarks, the committer, web pages.

What a partition decides is in `streams.partition`; what subclasses Faust is in `streams.faust_ext`. Nothing here reads
history from files, and nothing here imports `streams.simulate`.
"""
