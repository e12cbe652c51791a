"""Values to YAML text that our own reader (YAML 1.2) and Envoy's (1.1) understand alike."""

from __future__ import annotations

from typing import Any

import yaml

from authz.document import resolve


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        """Write everything out: a reader of the result should not have to look anchors up."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 takes for something else; `1e3` and `0o17` are numbers in 1.2 alone.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _stays_text(text) else '"')


def _stays_text(text: str) -> bool:
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _text)


def yaml_text(value: Any) -> str:  # noqa: ANN401 - any JSON-like value
    """Write a value in block style, keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
    return text


def flow_text(value: Any) -> str:  # noqa: ANN401
    """Write a value on one line."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
