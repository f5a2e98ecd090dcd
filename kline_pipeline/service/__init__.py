"""The ops service: what Prometheus, Kubernetes and people ask of a running pipeline over HTTP; it changes nothing."""
