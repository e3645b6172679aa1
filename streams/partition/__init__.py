"""One partition without a broker (Kafka Streams calls it a StreamTask): processor, state, timers, fencing, encoder.

Records and watermarks go in, effects come out; the worker performs them and replay collects them. No Faust, no
aiokafka, no clock. Start with `processor.py`.
"""
