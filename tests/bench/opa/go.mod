module bench/opa

// Built in a copy below .cache with `go build -mod=mod`, which adds the newest published opa-envoy-plugin. It is not
// pinned here, and there is no go.sum: the module proxy at hand when this was written does not serve it.

go 1.24

require github.com/open-policy-agent/opa v1.22.0
