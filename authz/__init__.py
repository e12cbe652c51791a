"""A policy decision service for Envoy and Amazon Cognito."""

__version__ = "0.1.0"
