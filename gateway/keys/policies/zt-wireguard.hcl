# The gateway of one cluster: its own key, and nobody else's. CLUSTER is the cluster's name.
path "zt-wireguard/data/CLUSTER" {
  capabilities = ["create", "read", "update"]
}
path "zt-wireguard/metadata/CLUSTER" {
  capabilities = ["create", "read", "update"]
}
# Old versions are disabled, never destroyed: that is for people.
path "zt-wireguard/delete/CLUSTER" {
  capabilities = ["update"]
}
