"""Enforces Kubernetes NetworkPolicies in the lab, where the bridge between pods enforces none.

Test equipment: pods, namespaces and policies of one API server become one table of nftables.
"""
