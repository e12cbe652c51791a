"""WHO IS CALLING: from a request to a verified principal. Knows nothing of policies."""
