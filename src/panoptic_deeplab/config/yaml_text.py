"""YAML as plain data, with the line of every value: no tags, no aliases, no code, no key twice.

JSON is YAML, so a `config.json` is read here too. Messages name places; what a file holds that may be no configuration
at all (a `base` can name any file) is not repeated in them.
"""

from typing import Any

import yaml

from panoptic_deeplab.errors import ConfigError, first_line

Places = dict[str, str]
"""Dotted key -> "my.yaml, line 7"; the whole document is under ""."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}": name for name in ("bool", "float", "int", "null", "str")}


def parse_yaml(text: str, where: str) -> tuple[Any, Places]:
    """The document as mappings, lists, text, numbers, booleans and None, and where each value stands.

    Args:
        text: the document; an empty one is None.
        where: name of the file.

    Raises:
        ConfigError: it is no YAML, nested too deeply, or more than data.
    """
    places = {"": where}
    try:
        loader = _Loader(text)  # refuses control characters
        root = loader.get_single_node()
        return None if root is None else _Plain(loader, where, places).value(root, ""), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f" (line {mark.line + 1})"
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where} is not valid YAML: {said}{line}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {first_line(error)}.") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply to be read. Expected sections with keys.") from error


class _Loader(yaml.SafeLoader):
    """A loader without aliases, which would allow documents that refer to themselves, and without dates: 2024-01-01 is
    text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        letter: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALARS]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (`*name`) are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)


class _Plain:
    """Turns nodes into values.

    Args:
        loader: knows the numbers and words.
        where: name of the document.
        places: is filled.
    """

    def __init__(self, loader: _Loader, where: str, places: Places) -> None:
        self._loader = loader
        self._where = where
        self._places = places

    def value(self, node: yaml.Node, key: str) -> Any:
        """The value of a node, which belongs to a dotted key."""
        self._places.setdefault(key, self._line(node))  # the line of the key, where there is one
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, f"{key}[{index}]") for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node)
        raise ConfigError(f"YAML tag {node.tag} is not allowed ({self._line(node)}). Expected plain data.")

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"A key must be a word. Got a list or section instead ({line}).")
            name = str(key_node.value)
            path = f"{key}.{name}" if key else name
            if name in mapping:
                raise ConfigError(f"`{path}` is given twice in {line}. Keep one of them.")
            self._places[path] = line
            mapping[name] = self.value(value_node, path)
        return mapping

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self._loader.construct_object(node)
            # JSON writes characters beyond 16 bits as two halves, which PyYAML leaves apart.
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le") if isinstance(value, str) else value
        except (ValueError, LookupError, TypeError) as error:  # `!!int x`; a number of 5,000 digits; half a character
            raise ConfigError(f"A value in {self._line(node)} is no {_SCALARS[node.tag]} that can be read.") from error

    def _line(self, node: yaml.Node) -> str:
        return f"{self._where}, line {node.start_mark.line + 1}"
