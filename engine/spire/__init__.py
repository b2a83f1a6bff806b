"""The evaluator's own SVID from the SPIRE agent of its node, by the SPIFFE Workload API."""
