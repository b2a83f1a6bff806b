"""What Envoy asks and reports: Check and access logs over gRPC."""
