"""What sigkit costs, beside its peers, in one run."""
