"""Prometheus metrics: the catalogue of all names, the collectors, and the page that is generated from the catalogue.

Every metric is in the catalogue. The owners of the facts feed the collectors.
"""
