"""How a settings class refuses a value, and takes one that a person wrote."""

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import user_path


def check_fields(
    settings: object, section: str, *, positive: str = "", at_least_0: str = "", **rules: tuple[bool, str]
) -> None:
    """Raise unless all fields of a section keep their rules.

    Args:
        settings: the section.
        section: its name, for the message.
        positive: names of fields that must be above 0; None, which stands for no number, passes.
        at_least_0: names of fields that must be 0 or more.
        rules: by field, whether it keeps its rule, and what it must be.

    Raises:
        ConfigError: names the first field that does not, what it must be, and what it is.
    """
    values = {name: getattr(settings, name) for name in (*positive.split(), *at_least_0.split(), *rules)}
    kept = {name: (values[name] is None or values[name] > 0, "positive") for name in positive.split()}
    kept |= {name: (values[name] >= 0, "at least 0") for name in at_least_0.split()}
    for name, (holds, expected) in (*kept.items(), *rules.items()):
        if not holds:
            raise ConfigError(f"`{section}.{name}` must be {expected}. Got {values[name]!r} instead.")


def expand_home(settings: object, *names: str) -> None:
    """In these fields of frozen settings, `~` in front of a path becomes the home folder."""
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, str) and value.startswith("~"):
            object.__setattr__(settings, name, str(user_path(value)))
