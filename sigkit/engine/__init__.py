"""Images and containers on this host: store, pull, unpack, snapshots, spec, create and start.

The engine takes an `Admission`, never a reference, and checks every byte that it pulls.
"""
