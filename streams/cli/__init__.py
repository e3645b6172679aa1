"""The commands: parse arguments, call the room that does the work, print what it returns.

No decision, no Kafka client and no file format lives here. Faust and other heavy modules are imported when a command
runs, so that `--help` is instant.
"""
