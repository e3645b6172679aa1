"""The state of one customer: the row, the ledger of orders, the interactions.

It records and answers; it decides nothing, and it knows neither policies nor care rules.
"""
