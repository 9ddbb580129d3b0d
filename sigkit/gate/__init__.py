"""The gate of one host: from a reference to a decision, from an allow to an admission, from an admission to a container."""
