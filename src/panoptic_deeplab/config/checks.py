"""How a settings class refuses a value."""

from panoptic_deeplab.errors import ConfigError


def check(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise unless `condition` holds.

    Raises:
        ConfigError: says that `name` must be `expected`, and what it is.
    """
    if not condition:
        raise ConfigError(f"`{name}` must be {expected}. Got {got!r} instead.")
