"""HOW ENVOY REACHES US: the gRPC service, its answers, and the admin port."""
