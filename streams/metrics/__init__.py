"""Prometheus metrics: the catalogue of all names, the collectors, and the page that is generated from the catalogue.

A metric that is not in the catalogue does not exist. Nothing here measures: the owners of the facts call in.
"""
