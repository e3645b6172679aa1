"""Care: which messages a customer is due, when, and which of them may be sent.

`specs` is what a policy file writes, `compile` turns it into `rules`. `dated`, `silences`, `moves` and `happenings` are
the triggers, `governance` decides what may go out, `attend` drives them for one evaluation. `effects` is about what
came of it. Pure functions throughout; sending is somebody else's trade.
"""
