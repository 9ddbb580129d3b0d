"""A private sigstore in one process: its directory, and what is done with it."""
