"""The load balancer of a cluster of the lab: Services of type LoadBalancer, seen from outside."""
