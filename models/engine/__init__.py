"""When and what is decided about a customer, and the report on one customer.

Events, an instant and a policy go in; state and decisions come out. The live worker and replay call the same code.
"""
