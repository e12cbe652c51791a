"""FOR PEOPLE: policy tests, explanations, schemas, importers and the doctor. Nothing here is on the request path."""
