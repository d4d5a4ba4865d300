"""How a settings class refuses a value, and takes one that a person wrote."""

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path


def check(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise unless `condition` holds.

    Raises:
        ConfigError: says that `name` must be `expected`, and what it is.
    """
    if not condition:
        raise ConfigError(f"`{name}` must be {expected}. Got {got!r} instead.")


def expand_home(settings: object, *names: str) -> None:
    """In these fields of frozen settings, `~` in front of a path becomes the home folder."""
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, str) and value.startswith("~"):
            object.__setattr__(settings, name, str(user_path(value)))
