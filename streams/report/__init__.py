"""How results look: tables on the console, HTML pages, charts. Shared by the worker's pages and `simulate`.

What is shown comes as arguments: nothing here reads a topic or decides.
"""
