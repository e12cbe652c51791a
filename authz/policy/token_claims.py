"""Which claims are in which of Cognito's tokens, unless a pre token generation trigger adds them.

Sources: AWS, "Understanding the identity (ID) token" and "Understanding the access token". What is in both is in
neither set; custom attributes (`custom:…`) are in ID tokens alone.
"""

from __future__ import annotations

from typing import Final

ONLY_IN_ID_TOKENS: Final = frozenset({
    "address", "aud", "birthdate", "cognito:preferred_role", "cognito:roles", "cognito:username", "email",
    "email_verified", "family_name", "gender", "given_name", "identities", "locale", "middle_name", "name", "nickname",
    "phone_number", "phone_number_verified", "picture", "preferred_username", "profile", "updated_at", "website",
    "zoneinfo",
})  # fmt: skip
ONLY_IN_ACCESS_TOKENS: Final = frozenset({"client_id", "device_key", "scope", "username", "version"})
