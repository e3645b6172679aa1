"""Start here: the live process. The Faust app, the loop over batches, ownership, watermarks, the committer, web pages.

Decisions are `streams.partition`'s, and what reaches into Faust is `streams.faust_ext`'s. Begin with `app.py`.
"""
