"""The mesh on one machine: ``lab.mesh`` without Kubernetes."""
