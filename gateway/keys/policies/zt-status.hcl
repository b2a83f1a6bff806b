# `zt keys status`: ages and public keys; no right to read a key.
path "zt-wireguard/metadata/*" {
  capabilities = ["read", "list"]
}
path "zt-root-ca/metadata/*" {
  capabilities = ["read", "list"]
}
