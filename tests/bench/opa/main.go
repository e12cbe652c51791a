// OPA with its Envoy plugin, as its users run it: the rival of `make bench`.
//
//	opa run --server --set plugins.envoy_ext_authz_grpc.addr=… policy.rego data.json
package main

import (
	"os"

	"github.com/open-policy-agent/opa-envoy-plugin/plugin"
	"github.com/open-policy-agent/opa/cmd"
	"github.com/open-policy-agent/opa/v1/runtime"
)

func main() {
	runtime.RegisterPlugin(plugin.PluginName, plugin.Factory{})
	if cmd.RootCommand.Execute() != nil {
		os.Exit(1)
	}
}
