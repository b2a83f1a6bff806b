"""The local mesh: real Envoys, PostgreSQL and evaluators on loopback addresses, without root."""
