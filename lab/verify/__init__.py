"""Proves the lab: what the policy allows passes, all else does not, and the trail says so."""
