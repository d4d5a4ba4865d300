"""The hub's own client against a small hub on this machine: repositories in memory, as the real one answers."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import CompatConfig, Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.card import PLACE, Results, model_card
from panoptic_deeplab.weights.folder import save_pretrained, save_weights
from panoptic_deeplab.weights.hub import download_from_hub
from panoptic_deeplab.weights.open import open_pretrained
from panoptic_deeplab.weights.publish import push_to_hub


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    repositories: dict[str, dict[str, bytes]]
    """Name -> path -> content, of the newest commit."""
    created: list[dict]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/revision/(\w+)", self.path):
            files = self.server.repositories.get(found[1])
            if files is None:
                return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            if found[2] != "main":
                return self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": found[1], "sha": commit_of(files), "siblings": siblings})
        if found := re.match(r"/api/models/([\w.-]+/[\w.-]+)/tree/\w+", self.path):
            files = self.server.repositories[found[1]]
            oids = {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}
            tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": oids[name]} for name in files]
            return self.answer(200, tree)
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/\w+/(.+)", self.path):
            files = self.server.repositories[found[1]]
            content = files[found[2]]
            headers = {"X-Repo-Commit": commit_of(files), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            return self.answer(200, content, headers)
        return self.answer(404, {})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "Authorization" not in self.headers:
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            return self.answer(200, {"url": f"{self.server.url}/{name}", "name": name})
        if self.path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            return self.answer(200, {"errors": [] if "library_name" in front else ["no library"], "warnings": []})
        found = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/main", self.path)
        assert found, self.path
        if found[2] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        repository = self.server.repositories[found[1]]
        for line in body.splitlines():
            operation = json.loads(line)
            if operation["key"] == "file":
                repository[operation["value"]["path"]] = base64.b64decode(operation["value"]["content"])
        commit = commit_of(repository)
        url = f"{self.server.url}/{found[1]}/commit/{commit}"
        return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def answer(self, status: int, content: dict | list | bytes, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub(("127.0.0.1", 0), Handler) as running:
        running.repositories, running.created = {}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, tiny_config: Config) -> Path:
    categories = CategoryTable.load("synthetic")
    path = tmp_path / "best"
    save_pretrained(path, PanopticDeepLab(tiny_config.model, 10), config=tiny_config, categories=categories)
    return path


def test_published_model_comes_back(hub: Hub, folder: Path) -> None:
    address = push_to_hub(folder, "owner/street", private=True)
    assert address == f"{hub.url}/owner/street"
    assert hub.created[0]["organization"] == "owner"
    assert "private" in json.dumps(hub.created[0])
    files = hub.repositories["owner/street"]
    assert set(files) >= {"model.safetensors", "config.json", "categories.json", "README.md"}

    found = download_from_hub("owner/street")
    expected, config, categories = open_pretrained(folder)
    model, found_config, found_categories = open_pretrained(found)
    assert (found_config, found_categories) == (config, categories)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), expected.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["owner/street", "hf://owner/street", "hf://owner/street@main"])
def test_from_pretrained_takes_the_name(hub: Hub, folder: Path, name: str) -> None:
    push_to_hub(folder, "owner/street")
    assert PanopticPredictor.from_pretrained(name, device="cpu").categories.name == "synthetic"


def test_card_names_the_repository(hub: Hub, folder: Path) -> None:
    push_to_hub(folder, "owner/street")
    card = hub.repositories["owner/street"]["README.md"].decode()
    assert 'from_pretrained("owner/street")' in card
    assert PLACE not in card


def test_paths_of_this_machine_stay_here(hub: Hub, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["data"]["root"] = "/home/me/secret/streets"
    config["model"] |= {"weights": "/home/me/secret/best", "reset_heads": True, "backbone_weights": "secret.pth"}
    (folder / "config.json").write_text(json.dumps(config))
    push_to_hub(folder, "owner/street")
    published = hub.repositories["owner/street"]["config.json"].decode()
    assert "secret" not in published
    assert json.loads(published)["model"]["backbone"] == config["model"]["backbone"]
    assert PanopticDeepLab.from_pretrained("owner/street").num_classes == 10


def test_averaged_weights_are_published_alone_and_nothing_of_the_training(hub: Hub, folder: Path) -> None:
    model, _, _ = open_pretrained(folder)
    torch.nn.init.ones_(model.semantic_head.predict.weight)
    save_weights(folder / "ema.safetensors", model.state_dict())
    (folder / "training_state.pt").write_bytes(b"optimizer")
    push_to_hub(folder, "owner/street")
    assert not {"ema.safetensors", "training_state.pt"} & set(hub.repositories["owner/street"])
    found = PanopticDeepLab.from_pretrained("owner/street")
    assert torch.all(found.state_dict()["semantic_head.predict.weight"] == 1)


def test_later_version_replaces_the_earlier(hub: Hub, folder: Path) -> None:
    push_to_hub(folder, "owner/street")
    first = download_from_hub("owner/street")
    (folder / "README.md").write_text("---\nlibrary_name: panoptic-deeplab\n---\n# Better\n")
    push_to_hub(folder, "owner/street")
    second = download_from_hub("owner/street")
    assert first != second
    assert (second / "README.md").read_text().endswith("# Better\n")


def test_cached_model_needs_no_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(folder, "owner/street")
    found = download_from_hub("owner/street")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert download_from_hub("owner/street") == found


def test_without_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError) as caught:
        download_from_hub("owner/street")
    message = str(caught.value)
    assert message.startswith("The model 'owner/street' could not be had from the hub: it cannot be reached (")
    assert message.endswith("and the model is not in its cache.")
    assert "\n" not in message


def test_repository_or_revision_that_does_not_exist(hub: Hub, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such repository, or it is not open to you"):
        download_from_hub("owner/nothing")
    push_to_hub(folder, "owner/street")
    with pytest.raises(CheckpointError, match="no such revision"):
        download_from_hub("owner/street", revision="v9")


def test_repository_with_something_else(hub: Hub) -> None:
    hub.repositories["owner/other"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    message = r"is no model of this package: it lacks categories\.json, model\.safetensors"
    with pytest.raises(CheckpointError, match=message):
        download_from_hub("owner/other")


def test_push_without_login(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nonexistent/token")
    with pytest.raises(CheckpointError, match=r"could not be published as 'owner/street': .*401"):
        push_to_hub(folder, "owner/street")


def test_broken_folder_is_not_published(hub: Hub, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        push_to_hub(folder, "owner/street")
    assert hub.repositories == {}


# ----------------------------------------------------------------------------------------------------------------- card


def test_card_for_machines_and_people(tiny_config: Config) -> None:
    model = replace(tiny_config.model, compat=CompatConfig(norm_eps=1e-3))
    config = replace(tiny_config, data=replace(tiny_config.data, root="/home/me/secret"), model=model)
    results = Results(metrics={"PQ": 0.603, "mIoU": 0.787}, provenance="Reported by X.", source="https://example.org/x")
    card = model_card(
        config, CategoryTable.load("synthetic"), origin="Converted from Y.", results=results, license_text="CC BY 4.0."
    )
    _, front, text = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert (head["library_name"], head["license"]) == ("panoptic-deeplab", "other")
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "pq", "name": "PQ", "value": 0.603}
    assert result["source"] == {"name": "Reported by X.", "url": "https://example.org/x"}
    for part in ("Converted from Y.", "Reported by X. See https://example.org/x.", "| 60.3 | 78.7 |", "CC BY 4.0."):
        assert part in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["model"]["backbone"] == "test_resnet"
    assert recipe["model"]["compat"] == {"norm_eps": 1e-3}
    assert "secret" not in card


def test_card_says_what_the_training_began_with(tiny_config: Config, tmp_path: Path) -> None:
    for weights, said in (
        ("detectron2/R52_os16_dsconv", "Training began with the weights of `detectron2/R52_os16_dsconv`."),
        ("hf://owner/street", "Training began with the weights of `hf://owner/street`."),
        (str(tmp_path), "Training began with the weights of another model."),
        ("secret/run", "Training began with the weights of another model."),  # a folder that is gone
    ):
        config = replace(tiny_config, model=replace(tiny_config.model, weights=weights))
        card = model_card(config, CategoryTable.load("synthetic"), origin="Weights after 9 steps.")
        assert f"for every object. Weights after 9 steps. {said}" in card
        assert str(tmp_path) not in card
        assert "secret" not in card
    assert "Training began" not in model_card(tiny_config, CategoryTable.load("synthetic"))


def test_card_without_numbers(tiny_config: Config) -> None:
    card = model_card(tiny_config, CategoryTable.load("synthetic"))
    assert "These weights were not measured." in card
    assert "## License\n\nNot stated." in card
    assert "license" not in card.split("---\n")[1]


def test_card_with_a_table(tiny_config: Config) -> None:
    results = Results(metrics={"PQ": 0.5}, provenance="Measured here.", table="PQ 50.0\n")
    card = model_card(tiny_config, CategoryTable.load("synthetic"), results=results)
    assert "Measured here.\n\n```\nPQ 50.0\n```" in card
    assert "source" not in yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"][0]
