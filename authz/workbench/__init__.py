"""FOR PEOPLE: policy tests, explanations and schemas. Nothing here is on the request path."""
