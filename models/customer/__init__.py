"""The state of one customer: the row, the ledger of orders, the interactions.

It stores and computes sums. It decides nothing and knows neither policies nor care rules.
"""
