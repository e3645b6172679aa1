"""When and what is decided about a customer. Events, an instant and a policy go in; state and decisions come out.

The worker and replay call this very code. No faust, no Kafka, no clock, no randomness, no IO.
"""
