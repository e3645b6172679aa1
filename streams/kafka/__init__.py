"""Plain Kafka clients: connections, topics, the bulk producer, the range reader, the partitioner.

Every client of the project is made here, with its security settings. No Faust, and no knowledge of customers.
"""
