"""`.pt2` archives whose author wants to run code, made from the entries of a good one. The code makes a file."""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._export.serde.schema import SCHEMA_VERSION

Entry = tuple[str, bytes]

INFO = "archive/extra/panoptic_deeplab"
PROGRAM = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
SAMPLES = "archive/data/sample_inputs/model.pt"


def write(path: Path, entries: list[Entry], compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def with_content(entries: list[Entry], **contents: bytes) -> list[Entry]:
    """The entries, some of them (program, weights, constants, samples) with another content."""
    names = {"program": PROGRAM, "weights": WEIGHTS, "constants": CONSTANTS, "samples": SAMPLES}
    changed = {names[key]: content for key, content in contents.items()}
    return [(name, changed.get(name, content)) for name, content in entries]


def edited(entries: list[Entry], change: Callable[[dict[str, Any]], object], name: str = PROGRAM) -> list[Entry]:
    """The entries with a changed JSON document."""
    document = json.loads(dict(entries)[name])
    change(document)
    return [(other, json.dumps(document).encode() if other == name else content) for other, content in entries]


class Payload:
    """Executed by whoever unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickled(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": Payload(marker)}, buffer)
    return buffer.getvalue()


def code(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def set_everywhere(document: Any, key: str, value: Callable[[Any], Any]) -> int:
    """Replace all values of a key, at any depth; how many there were."""
    found = 0
    inner = list(document.values()) if isinstance(document, dict) else document if isinstance(document, list) else []
    for part in inner:
        found += set_everywhere(part, key, value)
    if isinstance(document, dict) and key in document:
        document[key] = value(document[key])
        found += 1
    return found


def evil_formulas(entries: list[Entry], marker: Path) -> bytes:
    document = json.loads(dict(entries)[PROGRAM])
    assert set_everywhere(document, "expr_str", lambda _: code(marker)) > 3
    return json.dumps(document).encode()


def evil_target(target: str) -> Callable[[list[Entry], Path], list[Entry]]:
    return lambda entries, _: edited(
        entries, lambda document: document["graph_module"]["graph"]["nodes"][0].update(target=target)
    )


def older_format(entries: list[Entry], *, state: bytes, constants: bytes) -> list[Entry]:
    """What torch 2.7 wrote, to which torch.export.load falls back."""
    return [
        ("version", ".".join(map(str, SCHEMA_VERSION)).encode()),
        ("serialized_exported_program.json", dict(entries)[PROGRAM]),
        ("serialized_state_dict.pt", state),
        ("serialized_constants.pt", constants),
        ("serialized_example_inputs.pt", b""),
        ("x/extra/panoptic_deeplab", dict(entries)[INFO]),
    ]


def twice(entries: list[Entry], name: str, first: bytes, second: bytes) -> list[Entry]:
    return [entry for entry in entries if entry[0] != name] + [(name, first), (name, second)]


def renamed(entries: list[Entry], old: str, new: str, content: bytes) -> list[Entry]:
    return [(new, content) if name == old else (name, inside) for name, inside in entries]


def opaque(entries: list[Entry], marker: Path, config: str = CONSTANTS) -> list[Entry]:
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    changed = renamed(entries, CONSTANTS, config, json.dumps({"config": {"x": meta}}).encode())
    return [*changed, ("archive/data/constants/opaque_obj_0", pickle.dumps(Payload(marker)))]


def pickled_weight(entries: list[Entry], marker: Path) -> list[Entry]:
    name, meta = next(iter(json.loads(dict(entries)[WEIGHTS])["config"].items()))
    changed = edited(entries, lambda document: document["config"][name].update(use_pickle=True), WEIGHTS)
    place = f"archive/data/weights/{meta['path_name']}"
    return [(other, pickled(marker) if other == place else content) for other, content in changed]


def second_program(entries: list[Entry], marker: Path) -> list[Entry]:
    """Torch takes every entry in `models/` as a program, whatever its name ends in."""
    contents = dict(entries)
    return [
        *entries,
        ("archive/models/model2xxxx", evil_formulas(entries, marker)),
        ("archive/data/sample_inputs/model2.pt", b""),
        ("archive/data/weights/model2_weights_config.json", contents[WEIGHTS]),
        ("archive/data/constants/model2_constants_config.json", b'{"config": {}}'),
    ]


def source_in_names(entries: list[Entry], marker: Path) -> list[Entry]:
    """Torch writes the names of values into the Python source that it compiles."""
    text = dict(entries)[PROGRAM].decode()
    name = json.loads(text)["graph_module"]["graph"]["outputs"][0]["as_tensor"]["name"]
    evil = json.dumps(f"{name} = {code(marker)}; {name}")[1:-1]
    assert text.count(f'"{name}"') > 1
    return with_content(entries, program=text.replace(f'"{name}"', f'"{evil}"').encode())


def source_in_weights(entries: list[Entry], marker: Path) -> list[Entry]:
    evil = json.dumps(f"conv.weight; {code(marker)} #")[1:-1]

    def change(content: bytes) -> bytes:
        assert b'"conv.weight"' in content
        return content.replace(b'"conv.weight"', f'"{evil}"'.encode())

    contents = dict(entries)
    return with_content(entries, program=change(contents[PROGRAM]), weights=change(contents[WEIGHTS]))


def source_in_signature(entries: list[Entry], marker: Path) -> list[Entry]:
    def change(document: dict[str, Any]) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [f"images={code(marker)}"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "pathlib.Path")
        document["guards_code"] = [code(marker)]
        document["verifiers"] = [code(marker)]
        document["range_constraints"] = {code(marker): {"min_val": 0, "max_val": 9}}
        document["graph_module"]["metadata"] = {"custom": code(marker)}
        for node in document["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {"stack_trace": f"\n{code(marker)}", "source_fn_stack": "x,torch.hub.load"}

    return edited(entries, change)


def foreign_argument(kind: str, value: Any) -> Callable[[list[Entry], Path], list[Entry]]:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {kind: value}

    return lambda entries, _: edited(entries, change)


ARCHIVES: dict[str, tuple[Callable[[list[Entry], Path], list[Entry]], str | None]] = {
    # name: (how it is made, what is said; None where the file runs, without what was to be executed)
    "older format": (lambda e, m: older_format(e, state=pickled(m), constants=b""), "outside of its folder"),
    "older constants": (lambda e, m: older_format(e, state=b"", constants=pickled(m)), "outside of its folder"),
    "older entry beside": (lambda e, m: [*e, ("serialized_state_dict.pt", pickled(m))], "outside of its folder"),
    "older weights": (lambda e, m: [*e, ("archive/data/weights/model.pt", pickled(m))], "has an entry"),
    "older constants file": (lambda e, m: [*e, ("archive/data/constants/model.pt", pickled(m))], "has an entry"),
    "sample inputs": (lambda e, m: with_content(e, samples=pickled(m)), "pickled object"),
    "clean copy last": (lambda e, m: twice(e, SAMPLES, pickled(m), b""), "two entries"),
    "clean copy first": (lambda e, m: twice(e, SAMPLES, b"", pickled(m)), "two entries"),
    "program twice": (lambda e, m: twice(e, PROGRAM, evil_formulas(e, m), dict(e)[PROGRAM]), "two entries"),
    "program again": (lambda e, m: twice(e, PROGRAM, dict(e)[PROGRAM], evil_formulas(e, m)), "two entries"),
    "capital file": (lambda e, m: renamed(e, SAMPLES, SAMPLES.replace("model", "MODEL"), pickled(m)), "has an entry"),
    "capital folder": (lambda e, m: renamed(e, SAMPLES, SAMPLES.replace("data", "DATA"), pickled(m)), "has an entry"),
    "capital ending": (
        lambda e, m: renamed(e, PROGRAM, PROGRAM.replace("json", "JSON"), evil_formulas(e, m)),
        "has an entry",
    ),
    "second program": (second_program, "has an entry"),
    "second folder": (lambda e, m: [*e, ("other/models/model.json", evil_formulas(e, m))], "outside of its folder"),
    "pickled weight": (pickled_weight, "pickled object in place of"),
    "opaque constant": (opaque, "has an entry"),
    "opaque, capital": (lambda e, m: opaque(e, m, CONSTANTS.replace("json", "JSON")), "has an entry"),
    "compiled code": (lambda e, _: [*e, ("archive/data/aotinductor/model/code.so", b"ELF")], "holds compiled code"),
    "compiled, capital": (lambda e, _: [*e, ("archive/data/code.SO", b"ELF")], "holds compiled code"),
    "source beside": (lambda e, _: [*e, ("archive/data/code.cpp", b"int main() {}")], "holds compiled code"),
    "os.system": (evil_target("os.system"), "calls 'os.system', which is not on the list"),
    "torch.hub": (evil_target("torch.hub.load"), "calls 'torch.hub.load', which is not on the list"),
    "extension": (evil_target("#os.system"), "not on the list"),
    "attribute": (evil_target("torch.ops.aten.relu.__globals__"), "not on the list"),
    "class": (evil_target("torch.ops.aten.relu.__class__"), "not on the list"),
    "reader of files": (evil_target("torch.ops.aten.from_file.default"), "not on the list"),
    "raw memory": (evil_target("torch.ops.aten.set_.source_Storage"), "not on the list"),
    "given result": (evil_target("torch.ops.aten.relu.out"), "not on the list"),
    "other namespace": (evil_target("torch.ops.image.read_file.default"), "not on the list"),
    "methodcaller": (evil_target("_operator.methodcaller"), "not on the list"),
    "operator argument": (foreign_argument("as_operator", "torch.hub.load"), "holds no program that can be read"),
    "object argument": (foreign_argument("as_custom_obj", {"name": "x"}), "holds no program that can be read"),
    "formulas": (lambda e, m: with_content(e, program=evil_formulas(e, m)), None),
    "source in names": (source_in_names, None),
    "source in weights": (source_in_weights, None),
    "source in the signature": (source_in_signature, None),
}
