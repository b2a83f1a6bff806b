"""Kubernetes clusters of the lab, on one Linux machine: their control planes so far."""
