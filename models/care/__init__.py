"""Care: what happens at an evaluation. Which actions are proposed, refused, held out or emitted, and their uplift.

The rules are compiled in `models.policy`. Nothing is sent here: the result is a list of actions and refusals.
"""
