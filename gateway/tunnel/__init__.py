"""The WireGuard tunnel of a gateway: interfaces, peers, metrics, and the rotation of its key.

``python3 -m gateway.tunnel`` runs it, with Python's standard library, ``ip`` and ``wg``.
"""
