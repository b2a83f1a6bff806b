"""Stands in for the Kubernetes plugin of Pulumi, where the official one can't be had.

For the lab and tests alone. It does to a real API server what the official provider does, as far as
the program relies on that: facts are from pulumi-kubernetes 4.32, and tests hold them.

    values     property values as the engine sends them
    shape      what differs between an object and what is asked of it
    state      what Pulumi's state keeps of an object
    access     kubeconfig -> HTTP client
    cluster    the API server: kinds, requests, warnings
    objects    create, update, patch, read and delete one object
    protocol   the engine's calls
    serve      a port that the engine attaches to
"""
