"""Attacks on the lab: what must fail, which layer stops it, and what the audit trail says of it."""
