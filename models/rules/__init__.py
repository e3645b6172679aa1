"""Metrics and the comparisons over them, ranking, hysteresis, and the explanation of each.

Rules read a customer and an instant and return a truth with its reasons. No policy file and no care is known here.
"""
