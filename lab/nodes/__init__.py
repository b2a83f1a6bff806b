"""Nodes of the lab's clusters: real kubelets with containers, each in namespaces of its own."""
