"""What-if: two policies over the same history, decoded once. Who moves, how many, and whom it treats differently.

`population` counts while the customers of a shard are decided about under both, `facts` makes figures of the counts,
`tables` and `page` show them in a terminal and as one file of HTML.
"""
