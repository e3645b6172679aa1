"""Commands beside the live path: explain, diff, care uplift, cut-offs, load.

Each module reads files or topics and returns results, or produces records. None decides, and no worker imports them.
"""
