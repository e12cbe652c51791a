# The rule of the benchmark's policies: a good access token of the app client, and the group.
# data.bench: {"jwks": the key document as text, "issuer": …, "client_id": …}
package envoy.authz

http := input.attributes.request.http

default allow := false

allow if {
	startswith(http.path, "/service-9/")
	claims.token_use == "access"
	claims.client_id == data.bench.client_id
	"orders-readers" in claims["cognito:groups"]
}

claims := payload if {
	token := trim_prefix(http.headers.authorization, "Bearer ")
	constraints := {"cert": data.bench.jwks, "alg": "RS256", "iss": data.bench.issuer}
	[valid, _, payload] := io.jwt.decode_verify(token, constraints)
	valid
}
