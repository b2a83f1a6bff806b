"""The API on port 8054 and health on port 8055."""
