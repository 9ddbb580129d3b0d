"""The stack's own transparency log: a tree in static files, and Rekor's second generation in front of it."""
