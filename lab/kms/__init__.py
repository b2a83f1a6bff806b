"""A KMS for the lab: a real Vault, with the rights that the product ships."""
