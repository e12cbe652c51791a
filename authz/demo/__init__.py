"""The local stand behind `make run`: a local Cognito, this service, a real Envoy and an upstream."""
