module bench/opa

// Built in a copy below .cache with `go build -mod=mod`, which adds what these two need. 1.15.2 was the newest version
// of the plugin that the module proxy at hand served; `opa` is the one that it was released with.

go 1.25.0

require (
	github.com/open-policy-agent/opa v1.15.2
	github.com/open-policy-agent/opa-envoy-plugin v1.15.2-envoy
)
