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


def check_positive(settings: object, section: str, *names: str) -> None:
    """Raise unless these fields are above 0; None, which stands for no number, passes.

    Raises:
        ConfigError: names the first field that is not.
    """
    for name in names:
        value = getattr(settings, name)
        check(value is None or value > 0, f"{section}.{name}", "positive", value)


def check_at_least_0(settings: object, section: str, *names: str) -> None:
    """Raise unless these fields are 0 or more.

    Raises:
        ConfigError: names the first field that is not.
    """
    for name in names:
        value = getattr(settings, name)
        check(value >= 0, f"{section}.{name}", "at least 0", value)


def expand_home(settings: object, *names: str) -> None:
    """In these fields of frozen settings, `~` in front of a path becomes the home folder."""
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, str) and value.startswith("~"):
            object.__setattr__(settings, name, str(user_path(value)))
