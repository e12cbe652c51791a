"""WHAT IS ALLOWED: from policy files to a decision. Knows nothing of tokens."""
