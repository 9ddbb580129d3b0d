"""Transparency logs: entries and what proves them. Pure."""
