"""Prometheus metrics, right across the processes of an evaluator."""
