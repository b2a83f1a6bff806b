"""What runs inside the WireGuard gateway's pod.

Its image is also that of the init container which redirects the declared ports of any pod of the
mesh to its sidecar: that one needs ``nft`` alone.
"""
