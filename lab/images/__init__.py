"""Container images of the lab, built without Docker and brought to nodes without a registry."""
