"""The CAs above SPIRE's own: a root that is used once a year, and an issuing CA for each cluster.

SPIRE's servers renew their CA every day, so somebody must sign who is online; the root is not. So
there is a tier between: root (KMS, a ceremony) -> issuing CA (KMS, in the servers' memory) ->
SPIRE's CA (memory) -> SVID.
"""
