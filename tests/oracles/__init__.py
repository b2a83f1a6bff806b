"""Judges of compiled output, written from the documentation of those who will read it."""
