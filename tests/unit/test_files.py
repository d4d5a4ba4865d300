import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from panoptic_deeplab.errors import ConfigError, DatasetError, OutputError
from panoptic_deeplab.files import (
    _UMASK,
    file_name,
    growing_text,
    parse_json,
    path_below,
    path_inside,
    read_json,
    read_text,
    user_path,
    write_json,
    write_text,
    written_whole,
)

TEXT = '{"name": "Straße 道路"}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_unicode_text_reads_alike(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(TEXT, encoding)
    assert read_text(path, what="table", error=ConfigError) == TEXT
    assert read_json(path, what="table", error=ConfigError) == {"name": "Straße 道路"}


def test_other_encodings_are_one_sentence_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes("a.png\nStraße.png\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"list .*txt is no text in UTF-8.*0xdf in line 2\)\. Save it as"):
        read_text(path, what="list", error=DatasetError)
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_text(tmp_path / "absent", what="list", error=DatasetError)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a"', "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ('[{"id": 1, "isthing": 1, "isthing": 0}]', "not valid JSON, .* an object has the key 'isthing' twice"),
    ],
)
def test_bad_json_is_one_sentence(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=f"^The table is {match}"):
        parse_json(text, where="The table", error=ConfigError)


@pytest.mark.parametrize(
    "value",
    ["../../x", "/etc/x", "cam/1", "cam\\1", "a\0b", "x" * 300, "", ".", "..", None, 1.5, True, ["a"], "nul", "\ud800"],
)
def test_names_that_lead_elsewhere_are_refused(value: object) -> None:
    with pytest.raises(DatasetError, match=r"^Image 7 names a file .*Expected a plain name"):
        file_name(value, where="Image 7", error=DatasetError, suffix=".png")


def test_plain_names_and_numbers_name_files() -> None:
    assert file_name("Straße 1.b", where="", error=DatasetError, suffix=".png") == "Straße 1.b.png"
    assert file_name(7, where="", error=DatasetError) == "7"
    assert file_name("..a", where="", error=DatasetError) == "..a"


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/passwd", "C:\\x.png", "~/x.png", "\\x.png", "link.png"]
)
def test_paths_stay_inside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.png").symlink_to("/etc/passwd")
    with pytest.raises(DatasetError, match="lies outside of"):
        path_inside(root, name, where="Image 7", error=DatasetError)
    path_inside(root, name, where="Image 7", error=DatasetError, outside=True)


def test_a_circle_of_links_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    with pytest.raises(DatasetError, match=r"'a.png', whose links cannot be followed|does not exist"):
        path_inside(tmp_path, "a.png", where="Image 7", error=DatasetError)


def test_links_may_lead_to_a_folder_around_the_root(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").symlink_to(tmp_path / "all" / "a.png")
    path_inside(tmp_path / "train", "a.png", where="Image 7", error=DatasetError, within=tmp_path)
    path_below(tmp_path / "train", "a.png", where="Image 7", error=DatasetError)
    with pytest.raises(DatasetError, match="lies outside of"):
        path_inside(tmp_path / "train", "a.png", where="Image 7", error=DatasetError)
    with pytest.raises(DatasetError, match="lies outside of"):
        path_inside(tmp_path / "train", "../all/a.png", where="Image 7", error=DatasetError, within=tmp_path)


def test_paths_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    for name in ("a/b.png", "a\\b.png", "./a//b.png"):
        assert path_inside(tmp_path / "linked", name, where="", error=DatasetError) == tmp_path / "linked/a/b.png"
    assert path_inside(tmp_path, "/data/b.png", where="", error=DatasetError, outside=True) == Path("/data/b.png")


def test_a_tilde_is_the_home_folder_as_in_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a.png") == tmp_path / "a.png"
    assert user_path(Path("~")) == tmp_path
    assert user_path("a/~") == Path("a/~")
    assert user_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"name": "道路"}, indent=1)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o666 & ~_UMASK
    assert before.isascii()
    with pytest.raises(OutputError, match=r"report.json cannot be written: No space left on device. Make room"):
        _half_written(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def _half_written(path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence_for_torch_and_safetensors_too(tmp_path: Path) -> None:
    # In a process of its own, since the limit stays. The system then answers as a full disk does, with another number.
    finished = subprocess.run([sys.executable, "-c", _WRITE_BEYOND_THE_LIMIT, str(tmp_path)], capture_output=True)
    assert finished.returncode == 0, finished.stderr.decode()
    assert finished.stdout.decode().splitlines() == [
        f"{tmp_path}/a.safetensors cannot be written: File too large. Make room, or choose another folder.",
        f"{tmp_path}/a.pt cannot be written: the system took only a part of it. Make room, or choose another folder.",
    ]
    assert list(tmp_path.iterdir()) == []


_WRITE_BEYOND_THE_LIMIT = """
import resource, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from panoptic_deeplab.errors import OutputError
from panoptic_deeplab.files import written_whole

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for name, write in (("a.safetensors", save_file), ("a.pt", torch.save)):
    try:
        with written_whole(Path(sys.argv[1]) / name) as temporary:
            write({"a": torch.zeros(10_000)}, temporary)
    except OutputError as error:
        print(error)
"""


def test_errors_of_the_writer_itself_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^a fault$"), written_whole(tmp_path / "a.pt"):
        raise RuntimeError("a fault")


def test_weights_can_be_read_by_others(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.safetensors") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~_UMASK


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"absent/a.json cannot be written: No such file or directory"):
        write_json(tmp_path / "absent" / "a.json", {})


def test_a_link_stays_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("target.json")
    write_json(tmp_path / "link.json", 1)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "target.json").read_text() == "1\n"
    write_json("/dev/null", 1)
    assert Path("/dev/null").is_char_device()


def test_links_to_other_suffixes_and_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("target")
    with written_whole(tmp_path / "link.json") as temporary:
        assert temporary.suffix == ".json"  # writers choose the format by it
        temporary.write_text("1")
    assert (tmp_path / "target").read_text() == "1"
    (tmp_path / "circle.json").symlink_to("circle.json")
    write_json(tmp_path / "circle.json", 2)
    assert (tmp_path / "circle.json").read_text() == "2\n"


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "a.txt", "stra\udcdfe straße")
    assert (tmp_path / "a.txt").read_text("utf-8") == "stra\\udcdfe straße"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "link.json").symlink_to("/dev/zero")
    for name in ("config.json", "link.json"):
        with pytest.raises(ConfigError, match=rf"{name} is a pipe or a device"):
            read_text(tmp_path / name, what="file", error=ConfigError)


def test_growing_text_is_on_disk_at_once_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with contextlib.suppress(KeyboardInterrupt), growing_text(path) as append:
        append("eins\n")
        assert path.read_text("utf-8") == "eins\n"
        append("zw\udcff\n")
        raise KeyboardInterrupt
    assert path.read_text("utf-8") == "eins\nzw\\udcff\n"
    with pytest.raises(OutputError, match="cannot be written"), growing_text(path):
        pass
