import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from panoptic_deeplab.config import CompatConfig, Config, DataConfig, ModelConfig, PostprocessConfig, TrainConfig
from panoptic_deeplab.config.io import config_from_dict, config_to_dict, load_config, save_config
from panoptic_deeplab.errors import ConfigError

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a YAML text from a file called my.yaml."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, overrides: dict[str, Any] | None = None) -> Config:
        Path("my.yaml").write_text(text, "utf-8")
        return load_config("my.yaml", overrides)

    return load_text


def message(load: Load, text: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, overrides)
    return str(caught.value)


EXOTIC = Config(
    data=DataConfig(crop_size=(3, 5), root="düne/ä", scale_step=0),
    model=ModelConfig(decoder_strides=(16, 8, 4), projections=(1, 2, 3), instance_projections=(1, 2, 3),
                      image_pool_size=(33, 65), compat=CompatConfig(norm_eps=1e-12, multi_grid=(1, 2, 4))),
    train=TrainConfig(learning_rate=1e-5, ema_decay=0.999, clip_gradient_norm=1),
)  # fmt: skip


@pytest.mark.parametrize("config", [Config(), EXOTIC])
def test_yaml_round_trip_is_exact(config: Config, tmp_path: Path) -> None:
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("config", [Config(), EXOTIC])
def test_json_round_trip_is_exact(config: Config) -> None:
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_saved_file_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    save_config(Config(), tmp_path / "config.yaml")
    first_line = (tmp_path / "config.yaml").read_text().partition("\n")[0]
    assert first_line.startswith("# ")
    assert "panoptic-deeplab train config.yaml --run-folder NEW" in first_line


def test_saved_file_is_complete(tmp_path: Path) -> None:
    save_config(Config(), tmp_path / "config.yaml")
    data = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for section in dataclasses.fields(Config):
        fields = dataclasses.fields(getattr(Config(), section.name))
        assert list(data[section.name]) == [field.name for field in fields]


def test_empty_file_gives_the_defaults(load: Load) -> None:
    assert load("# nothing\n") == Config()


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("2", 2.0), ("'5e-4'", 0.0005), ("1.5", 1.5)])
def test_floats_in_any_notation(load: Load, text: str, value: float) -> None:
    rate = load(f"train: {{learning_rate: {text}}}").train.learning_rate
    assert rate == value
    assert isinstance(rate, float)


def test_tuples_optionals_and_literals(load: Load) -> None:
    config = load(
        "data: {crop_size: [65, 129]}\nmodel: {output_stride: 8, image_pool_size: null, atrous_rates: [1, 2, 3]}"
    )
    assert config.data.crop_size == (65, 129)
    assert config.model.output_stride == 8
    assert config.model.image_pool_size is None
    assert config.model.atrous_rates == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train:\n  max_steps: 3\n  lerning_rate: 1\n",
            "unknown key `train.lerning_rate` in my.yaml, line 3. Did you mean `train.learning_rate`?",
        ),
        ("trainn:\n  max_steps: 3\n", "unknown key `trainn` in my.yaml, line 1. Did you mean `train`?"),
        (
            "evaluation:\n  qqq: 3\n",
            "unknown key `evaluation.qqq` in my.yaml, line 2. Choose from: max_detections, metric, num_pictures.",
        ),
        ("\n\ntrain:\n  batch_size: x\n", "`train.batch_size` must be an integer. Got 'x' instead (my.yaml, line 4)."),
        ("train:\n  batch_size: 2.0", "`train.batch_size` must be an integer. Got 2.0 instead (my.yaml, line 2)."),
        ("train:\n  batch_size: true", "`train.batch_size` must be an integer. Got True instead (my.yaml, line 2)."),
        (
            "train:\n  learning_rate: true",
            "`train.learning_rate` must be a number. Got True instead (my.yaml, line 2).",
        ),
        ("train:\n  learning_rate: .nan", "`train.learning_rate` must be a number. Got nan instead (my.yaml, line 2)."),
        ("data:\n  rotate90: 1", "`data.rotate90` must be true or false. Got 1 instead (my.yaml, line 2)."),
        ("data:\n  root: 2024", "`data.root` must be text. Got 2024 instead (my.yaml, line 2)."),
        (
            "data:\n  crop_size:\n  - 3\n",
            "`data.crop_size` must be a list of 2 integers. Got [3] instead (my.yaml, line 2).",
        ),
        (
            "model:\n  projections: [a]",
            "`model.projections` must be a list of integers. Got ['a'] instead (my.yaml, line 2).",
        ),
        (
            "model:\n  image_pool_size: 4",
            "`model.image_pool_size` must be a list of 2 integers or null. Got 4 instead (my.yaml, line 2).",
        ),
        (
            "model: {output_stride: 4}",
            "`model.output_stride` must be one of 8, 16, 32. Got 4 instead (my.yaml, line 1).",
        ),
        ("train:\nloss: {}\n", "`train` must be a section with keys. Got None instead (my.yaml, line 1)."),
        (
            "train:\n  seed: 1\n  seed: 2\n",
            "`train.seed` is given twice in my.yaml, line 3. Keep one of them.",
        ),
        ("train: {}\ntrain: {}\n", "`train` is given twice in my.yaml, line 2. Keep one of them."),
        (
            "postprocess:\n  top_k: 5\n  nms_kernel: 4\n",
            "`postprocess.nms_kernel` must be a positive odd number. Got 4 instead (my.yaml, line 3).",
        ),
        ("- 1\n", "my.yaml must hold sections such as `data:` and `train:`. Got a list instead."),
        ("root:x:0:0\nsecret\n", "my.yaml must hold sections such as `data:` and `train:`. Got one value instead."),
        (
            "password: hunter2\n",
            "my.yaml is no configuration: none of its keys is like one of a configuration. Expected sections such as"
            " `data:` and `train:`.",
        ),
        ("? [a, b]\n: 1\n", "A key must be a word. Got a list or section instead (my.yaml, line 1)."),
        ("train:\n  <<: {seed: 1}\n", "unknown key `train.<<` in my.yaml, line 2. Choose from: "),
        ("train:\n  seed: !!int x\n", "A value in my.yaml, line 2 is no int that can be read."),
        ("train:\n  seed: !!bool x\n", "A value in my.yaml, line 2 is no bool that can be read."),
        ("train:\n  seed: !!timestamp 2024-99-99\n", "YAML tag tag:yaml.org,2002:timestamp is not allowed (my.yaml, l"),
        ("train:\n  seed: !!binary aGk=\n", "YAML tag tag:yaml.org,2002:binary is not allowed (my.yaml, line 2)."),
        ("train:\n  seed: " + "9" * 5000, "A value in my.yaml, line 2 is no int that can be read."),
        ("train:\n  seed: 99999999999999999999\n", "`train.seed` must be an integer of at most 63 bits. Got 9999"),
        ("train:\n  learning_rate: " + "9" * 400, "`train.learning_rate` must be a number. Got 9999999"),
        ('train:\n  "\\e[31m": 1\n', "unknown key `train.'\\x1b[31m'` in my.yaml, line 2. Choose from: "),
        ('data:\n  root: "\\ud83d"\n', "A value in my.yaml, line 2 is no str that can be read."),
        ("train: " + "[" * 5000, "my.yaml is nested too deeply to be read. Expected sections with keys."),
        ("train: \0", "The configuration my.yaml holds zero bytes, as UTF-16 without a byte-order mark does, "),
        ("train: " + "{a: " * 5000, "my.yaml is nested too deeply to be read. Expected sections with keys."),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_line(load: Load, text: str, expected: str) -> None:
    said = message(load, text)
    assert said.startswith(expected)
    assert len(said) < 700
    assert "\n" not in said


@pytest.mark.parametrize("root", ["2024-01-01", "2024-99-99", '"\\ud83d\\ude00"'])
def test_what_looks_like_a_date_is_text(load: Load, root: str) -> None:
    assert load(f"data: {{root: {root}}}").data.root in ("2024-01-01", "2024-99-99", "\U0001f600")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.yaml").write_text("data: {root: Größe}\n", encoding)
    assert load_config(tmp_path / "a.yaml").data.root == "Größe"


def test_paths_in_the_home_folder(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "data: {root: ~/a, categories: ~/b.json}\nmodel: {weights: ~/c, backbone_weights: ~/d.pth}\n"
    config = load(text)
    assert (config.data.root, config.data.categories) == (str(tmp_path / "a"), str(tmp_path / "b.json"))
    assert (config.model.weights, config.model.backbone_weights) == (str(tmp_path / "c"), str(tmp_path / "d.pth"))
    assert load_config("~/my.yaml") == config
    save_config(config, "~/saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize("base", ["/etc/passwd", "~/a.yaml", "C:\\a.yaml", "\\\\host\\a.yaml"])
def test_a_base_is_no_absolute_path(load: Load, base: str) -> None:
    said = message(load, f"base: {base}\n")
    assert said.startswith("`base` must be a recipe's name, or a YAML file by a path that starts from the folder of")
    assert "root:" not in said


def test_what_a_base_holds_is_not_repeated(load: Load) -> None:
    for text in ("root:x:0:0:secret\n", "token: secret\n", "- secret\n", "secret: [\n", '"secret\n'):
        write(Path("other"), text)
        assert "secret" not in message(load, "base: other\n")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train: [", "line 1"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("train: &x {}\nloss: *x\n", "aliases (`*name`) are not allowed"),
        ("train: &x {seed: *x}", "aliases (`*name`) are not allowed"),
    ],
)
def test_what_is_no_plain_yaml_document_is_refused(load: Load, text: str, part: str) -> None:
    text = message(load, text)
    assert text.startswith("my.yaml is not valid YAML:")
    assert part in text


@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.system ['touch hacked']", "!!python/name:os.system ''", "!mine {a: 1}", "!!set {a}"],
)
def test_tags_never_execute_anything(load: Load, value: str) -> None:
    message(load, f"train: {value}")
    assert not Path("hacked").exists()


def test_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\x00\xff\x81")
    with pytest.raises(ConfigError, match="is no text in UTF-8"):
        load_config(tmp_path / "x.yaml")


def test_folder_is_refused_with_the_file_to_take(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"such as {tmp_path / 'config.yaml'}")):
        load_config(tmp_path)


def test_unknown_recipe_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError,
        match=re.escape(
            "There is no recipe and no YAML file 'demoo'. Did you mean `demo`?"
            " See all with: panoptic-deeplab train --help"
        ),
    ):
        load_config("demoo")


def test_overrides_win_dotted_and_nested(load: Load) -> None:
    text = "train: {max_steps: 7, seed: 1}"
    for overrides in ({"train.max_steps": 9}, {"train": {"max_steps": 9}}):
        config = load(text, overrides)
        assert (config.train.max_steps, config.train.seed) == (9, 1)
    assert load(text, {"data.crop_size": (3, 5), "postprocess": {"top_k": 2}}) == Config(
        train=TrainConfig(max_steps=7, seed=1),
        data=DataConfig(crop_size=(3, 5)),
        postprocess=PostprocessConfig(top_k=2),
    )


def test_overrides_are_checked(load: Load) -> None:
    assert message(load, "", {"train.max_stepz": 1}).startswith("unknown key `train.max_stepz` in overrides.")
    assert message(load, "", {"train": {"seed": "x"}}).endswith("Got 'x' instead (overrides).")
    assert message(load, "train: 3", {"train.seed": 1}) == (
        "`train` must be a section with keys. Got 3 instead (my.yaml, line 1)."
    )


def test_dictionary_errors_name_their_origin() -> None:
    with pytest.raises(ConfigError, match=re.escape("unknown key `train.x` in model/config.json.")):
        config_from_dict({"train": {"x": 1}}, where="model/config.json")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def test_a_file_states_only_what_differs_from_its_base(load: Load) -> None:
    write(Path("street.yaml"), "base: sub/first.yaml\ntrain: {seed: 5}\ndata: {crop_size: [33, 33]}\n")
    write(Path("sub/first.yaml"), "data: {root: x, crop_size: [65, 65]}\ntrain: {seed: 1, ema_decay: 0.9}\n")
    text = "base: street.yaml\ntrain: {max_steps: 7, ema_decay: null}\n"
    assert load(text) == Config(
        data=DataConfig(root="x", crop_size=(33, 33)), train=TrainConfig(seed=5, max_steps=7, ema_decay=None)
    )
    assert load(text, {"train.seed": 9}).train.seed == 9


def test_a_recipe_as_base(load: Load) -> None:
    assert load("base: demo\n") == load_config("demo")
    changed = load("base: demo\npostprocess:\n  top_k: 3\n")
    assert changed == dataclasses.replace(
        load_config("demo"), postprocess=dataclasses.replace(load_config("demo").postprocess, top_k=3)
    )


def test_values_of_a_base_are_errors_of_that_file(load: Load) -> None:
    write(Path("first.yaml"), "train:\n  seed: x\n")
    assert message(load, "base: first.yaml\n") == (
        "`train.seed` must be an integer. Got 'x' instead (first.yaml, line 2)."
    )
    assert load("base: first.yaml\ntrain: {seed: 3}\n").train.seed == 3
    write(Path("first.yaml"), "input:\n  scale: 2.0\n")
    assert message(load, "base: first.yaml\ninput:\n  longest_side: 9\n") == (
        "`input.scale` must be 1 when input.longest_side is set. Got 2.0 instead (first.yaml, line 2)."
    )


def test_bases_that_cannot_be(load: Load) -> None:
    write(Path("first.yaml"), "base: second.yaml\n")
    write(Path("second.yaml"), "base: ./first.yaml\n")
    first, second, mine = (str(Path(name).resolve()) for name in ("first.yaml", "second.yaml", "my.yaml"))
    for text, expected in (
        ("base: my.yaml\n", f"`base` goes in a circle: {mine} -> {mine} (my.yaml, line 1). Remove it in one of them."),
        (
            "base: first.yaml\n",
            f"`base` goes in a circle: {first} -> {second} -> {first} (second.yaml, line 1). Remove it in one of them.",
        ),
        ("train: {}\nbase: demo\n", "`base` must be the first key, since what follows changes what it names"
                                    " (my.yaml, line 2)."),
        ("base: [demo, x]\n", "`base` must be a recipe's name or a YAML file. Got ['demo', 'x'] instead"
                              " (my.yaml, line 1)."),
        ("base: demoo\n", "There is no recipe and no YAML file 'demoo', which is the `base` in my.yaml, line 1. Did you"
                          " mean `demo`? See all with: panoptic-deeplab train --help"),
    ):  # fmt: skip
        assert message(load, text) == expected


def test_bases_over_too_many_files(load: Load) -> None:
    for number in range(30):
        write(Path(f"{number}.yaml"), f"base: {number + 1}.yaml\n")
    write(Path("30.yaml"), "base: demo\n")
    assert message(load, "base: 0.yaml\n").startswith("`base` leads over more than 20 files (")
    assert load("base: 15.yaml\n") == load_config("demo")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match="There is no recipe and no YAML file"):
        load_config(name)


def test_a_base_is_found_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "street.yaml", "base: ../b/first.yaml\n")
    write(tmp_path / "b" / "first.yaml", "train: {seed: 8}\n")
    monkeypatch.chdir(tmp_path / "b")
    assert load_config("../a/street.yaml").train.seed == 8
    assert load_config(tmp_path / "a" / "street.yaml").train.seed == 8


def test_a_saved_configuration_has_no_base(load: Load, tmp_path: Path) -> None:
    save_config(load("base: demo\n"), tmp_path / "config.yaml")
    assert "base" not in yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert load_config(tmp_path / "config.yaml") == load_config("demo")
