"""The admission webhook: which sidecar a new pod gets."""
