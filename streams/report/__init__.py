"""Tables in the terminal, pieces of HTML pages, charts. Commands, worker pages and `simulate` share them.

All data comes as arguments: nothing here reads a topic or decides.
"""
