"""Files of history as event values: JSON lines, CSV and Parquet, compressed or not, and how files are written.

Values stay bytes or rows here; what they mean is for `models.wire`. No Kafka and no decisions.
"""
