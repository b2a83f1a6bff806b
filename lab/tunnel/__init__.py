"""Proves the tunnel of a running lab: what crosses it, rotation of its keys, and recovery."""
