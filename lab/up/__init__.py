"""Two whole clusters with the mesh in them, step by step: what ``zt lab up`` does."""
