# The SPIRE servers of one cluster: they read their issuing CA. The root they never see.
path "zt-root-ca/data/spire/CLUSTER" {
  capabilities = ["read"]
}
