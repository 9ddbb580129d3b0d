"""Simulated outside worlds that several rooms' tests share."""
