"""Metrics and the comparisons over them, ranking, hysteresis, and the explanation of each.

A rule takes a customer's readings at an instant and returns whether it holds, and why. Policy files and care rules are
unknown here.
"""
