"""Producing evidence: what is signed, and by what; evidence is verified before it is attached."""
