"""Plain data as YAML text that people can read and that every YAML parser reads in the same way."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+-]+)*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # YAML 1.1 reads "yes" as a boolean


def dump(data: dict[str, Any]) -> str:
    """Plain data as YAML in block style, keys in order; `hpo.validation.yaml_reader.read` gives equal data back."""
    yaml: Any = YAML(typ="safe", pure=True)  # its attributes are typed by their defaults, None
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 68  # a line ends after the word that reaches it: they fit into 80 columns
    yaml.sort_base_mapping_type_on_output = False
    yaml.Representer = _Representer
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        """Write equal objects out each time: the reader refuses aliases."""
        return True

    def represent_text(self, text: str) -> Any:
        """Quote everything but plain ASCII words that are text in every YAML version."""
        plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Representer.add_representer(str, _Representer.represent_text)


def remove(data: dict[str, Any], keys: list[str]) -> None:
    """Remove one leaf of nested mappings, if it exists."""
    *parents, leaf = keys
    for key in parents:
        data = data.get(key, {})
    data.pop(leaf, None)
