"""The policy language of Hanzo ZT: model, load, check, decide, compile. No network, no Pulumi."""
