"""Tests of sigkit: rooms as in the package, attacks, users' cases, real peers."""
