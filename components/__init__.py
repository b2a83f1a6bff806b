"""The compiled bundle as Pulumi resources. No policy logic is here, and no YAML is read."""
