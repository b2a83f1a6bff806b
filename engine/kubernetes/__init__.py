"""The Kubernetes API, as far as the evaluator needs it: which pods there are, and one ConfigMap."""
