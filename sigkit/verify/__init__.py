"""The verification core: evidence and a trust root in, facts out. Pure."""
