"""Plain Kafka clients: the factory that makes them, topics, the bulk producer, the range reader, the partitioner.

No Faust, and no knowledge of customers.
"""
