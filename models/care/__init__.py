"""Care at an evaluation: triggers propose actions, governance and budgets refuse or defer them, uplift measures them.

`models.policy` compiles the rules. Nothing is sent here: the results are actions, refusals and outcomes to count.
"""
