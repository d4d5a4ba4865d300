import io
from pathlib import Path

import pytest
from rich.console import Console

from panoptic_deeplab.cli import verb
from panoptic_deeplab.errors import ConfigError


@pytest.mark.parametrize(("enabled", "rank", "drawn"), [(True, "0", True), (False, "0", False), (True, "1", False)])
def test_bar_is_drawn_where_nothing_else_is_printed(
    monkeypatch: pytest.MonkeyPatch, enabled: bool, rank: str, drawn: bool
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    monkeypatch.setattr(verb, "error_console", lambda: console)
    monkeypatch.setenv("RANK", rank)
    with verb.progress_bar("predict", enabled=enabled) as on_image:
        on_image(1, 2)
    assert ("predict" in written.getvalue()) == drawn


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verb.make_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    monkeypatch.setattr(verb.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="not writable"):
        verb.make_folder(tmp_path)
