# The one identity of the ceremony; given to people for its hour, and taken away again.
path "zt-root-ca/data/*" {
  capabilities = ["create", "read", "update"]
}
path "zt-root-ca/metadata/*" {
  capabilities = ["create", "read", "update", "list"]
}
path "zt-root-ca/delete/*" {
  capabilities = ["update"]
}
