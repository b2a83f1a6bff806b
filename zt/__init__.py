"""The policy language of Hanzo ZT: model, load, check, decide, compile. Pure: no network, no Pulumi."""
