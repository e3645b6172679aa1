"""What people ask beside the live path: explain, diff, care uplift, cut-offs, load.

Each module reads files or topics and returns tables. Nothing here decides anything, and no worker imports it.
"""
