"""Downloads from a hub and from torchvision, uploads, and everything that can go wrong with them.

The hub is `hub_server.py`, on the loopback interface. Its client reads the address when it is imported, so that each
scenario is a process of its own: nothing of the client is replaced.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hub_server as server
import pytest
from hub_server import Fault, Hub

from cnnzoo.checkpoints.hub import fetch_torchvision
from cnnzoo.errors import CheckpointError, HubError

REPO = "ada/resnet50"
FILE = "model.safetensors"
WEIGHTS = bytes(range(256)) * 400
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
LOAD = "load_pretrained('resnet50.of_ada', hub=True)"

CALL = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever started the tests may have switched off
from pathlib import Path
from cnnzoo.checkpoints import hub
from cnnzoo.errors import CheckpointError
name, options = json.loads(sys.argv[1])
for key in ("cache_dir", "folder"):
    if options.get(key):
        options[key] = Path(options[key])
try:
    print(json.dumps(["", str(getattr(hub, name)(**options))]))
except CheckpointError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


class Client:
    """Runs functions of `cnnzoo.checkpoints.hub` in processes of their own, with a cache of their own."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.home = home
        ours = ("HF_", "HUGGING", "TRANSFORMERS_")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(ours) and not name.lower().endswith("_proxy")
        } | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # the server here speaks the older protocol only
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def start(self, name: str, options: dict, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", CALL, json.dumps([name, options])],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def outcome(process: subprocess.Popen) -> str:
        """What the function returned; or raise again what it raised."""
        said, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        kind, text = json.loads(said.splitlines()[-1])
        if kind:
            raise {"CheckpointError": CheckpointError, "HubError": HubError}[kind](text)
        return text

    @staticmethod
    def fetching(**options) -> dict:
        asked = {"repo": REPO, "file": FILE, "revision": None, "sha256": "", "hub": True, "cache_dir": None}
        return asked | {"token": None, "progress": False, "size_mb": 102.1, "call": LOAD} | options

    def fetch(self, environment: dict[str, str] | None = None, **options) -> Path:
        return Path(self.outcome(self.start("fetch", self.fetching(**options), **environment or {})))

    def push(self, folder: Path, repo: str = REPO, **options) -> str:
        asked = {"folder": str(folder), "repo_id": repo, "private": False, "token": "hf_ada", "message": "Weights"}
        return self.outcome(self.start("push", asked | options))

    def kept(self) -> list[str]:
        """What the cache holds of files, whole or not, and of links to them."""
        noted = ("refs", ".locks", ".no_exist", "CACHEDIR.TAG")
        cache = self.home / "hub"
        inside = (path.relative_to(cache).parts for path in cache.rglob("*") if path.is_symlink() or path.is_file())
        return sorted("/".join(parts[1:]) for parts in inside if not set(parts) & set(noted))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.first = running.commit(REPO, {FILE: WEIGHTS[::-1], "config.json": b"{}"}, tag="v1")
        running.last = running.commit(REPO, {FILE: WEIGHTS})
        yield running


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub.url, tmp_path / "home")


# Downloads


def test_branch_tag_and_commit(hub: Hub, client: Client) -> None:
    assert client.fetch().read_bytes() == WEIGHTS
    assert client.fetch(revision="v1").read_bytes() == WEIGHTS[::-1]
    requests = len(hub.requests)
    assert client.fetch(revision=hub.first).read_bytes() == WEIGHTS[::-1]
    assert client.fetch(revision="v1", hub=False) == client.fetch(revision=hub.first, hub=False)
    assert len(hub.requests) == requests, "a commit that is cached needs no network"
    assert hub.count("GET /storage") == 2


def test_small_file(hub: Hub, client: Client) -> None:
    assert client.fetch(file="config.json").read_bytes() == b"{}"
    assert hub.count("GET") == 1


def test_a_cached_file_is_not_fetched_again(hub: Hub, client: Client) -> None:
    path = client.fetch(sha256=SHA256)
    requests = len(hub.requests)
    assert client.fetch(sha256=SHA256) == path
    assert len(hub.requests) == requests, "what the sha256 fixes needs no network"
    assert client.fetch() == path
    assert hub.requests[requests:] == [f"HEAD /{REPO}/resolve/main/{FILE}"], "a branch is asked for once"


def test_a_branch_that_moved(hub: Hub, client: Client) -> None:
    client.fetch()
    hub.commit(REPO, {FILE: WEIGHTS * 2})
    assert client.fetch(hub=False).read_bytes() == WEIGHTS
    assert client.fetch().read_bytes() == WEIGHTS * 2
    assert client.fetch(hub=False).read_bytes() == WEIGHTS * 2
    with pytest.raises(CheckpointError, match="is not in the cache"):  # another version is, and its name shows it
        client.fetch(sha256=SHA256, hub=False)
    with pytest.raises(HubError, match=f"another file is there now: sha256 .* expected {SHA256}; name the revision"):
        client.fetch(sha256=SHA256)
    assert client.fetch(sha256=SHA256, revision=hub.last).read_bytes() == WEIGHTS


def test_cache_dir_token_and_progress(hub: Hub, client: Client, tmp_path: Path) -> None:
    hub.repositories[REPO].private = True
    process = client.start("fetch", client.fetching(cache_dir=str(tmp_path / "mine"), token="hf_ada", progress=True))
    path = Path(client.outcome(process))
    assert path.is_relative_to(tmp_path / "mine")
    assert path.read_bytes() == WEIGHTS
    assert hub.count("GET /storage") == 1
    assert not any("/storage" in request for request in hub.authorized), "the token is for the hub alone"


def test_the_progress_bar_is_optional(hub: Hub, client: Client) -> None:
    terminal = {"TQDM_POSITION": "-1"}  # as if there were one
    for progress in (True, False):
        process = client.start(
            "fetch", client.fetching(revision="main" if progress else "v1", progress=progress), **terminal
        )
        _, shown = process.communicate(timeout=60)
        assert ("100%" in shown) == progress, shown


def test_renamed_repository(hub: Hub, client: Client) -> None:
    hub.renamed["ada/old"] = REPO
    assert client.fetch(repo="ada/old").read_bytes() == WEIGHTS


def test_without_links_in_the_cache(hub: Hub, client: Client) -> None:
    plain = {"HF_HUB_DISABLE_SYMLINKS": "1"}
    path = client.fetch(plain)
    assert not path.is_symlink()
    assert client.fetch(plain, sha256=SHA256, hub=False) == path
    hub.order("GET /storage", server.flipped)
    with pytest.raises(HubError, match="twice"):
        client.fetch(plain, revision="v1")
    assert hub.count("GET /storage") == 3
    assert client.kept() == [f"snapshots/{hub.last}/{FILE}"]
    hub.faults.clear()
    hub.order("GET /storage", server.flipped, times=1)
    assert client.fetch(plain, revision="v1").read_bytes() == WEIGHTS[::-1]
    assert client.kept() == sorted(f"snapshots/{commit}/{FILE}" for commit in (hub.first, hub.last))


def test_four_processes_at_once(hub: Hub, client: Client) -> None:
    processes = [client.start("fetch", client.fetching()) for _ in range(4)]
    paths = {client.outcome(process) for process in processes}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == WEIGHTS
    assert hub.count("GET /storage") == 1, "one fetches, the others wait for it"


def test_four_processes_and_a_wrong_byte(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.flipped, times=1)
    processes = [client.start("fetch", client.fetching()) for _ in range(4)]
    paths = [client.outcome(process) for process in processes]
    assert {Path(path).read_bytes() for path in paths} == {WEIGHTS}
    assert 2 <= hub.count("GET /storage") <= 5
    assert len(client.kept()) == 2, "the blob, and the link to it"


# Without the network


def test_no_network_and_a_cached_copy(hub: Hub, client: Client) -> None:
    path = client.fetch()
    hub.stop()
    for options in ({}, {"hub": False}, {"revision": hub.last}, {"sha256": SHA256}):
        assert client.fetch(**options) == path
    assert client.fetch({"HF_HUB_OFFLINE": "1"}) == path


def test_no_network_and_no_copy(hub: Hub, client: Client) -> None:
    hub.stop()
    began = time.monotonic()
    with pytest.raises(
        HubError,
        match=rf"{FILE} of {REPO} \(revision main\) from {hub.url}: .*Connection refused; "
        "check the connection, proxies and HF_ENDPOINT, and try again",
    ):
        client.fetch()
    assert time.monotonic() - began < 10
    assert client.kept() == []


def test_unknown_host(client: Client) -> None:
    client.environment["HF_ENDPOINT"] = "http://no-such-host.invalid"
    with pytest.raises(HubError, match=r"no-such-host\.invalid: .*not known; check the connection"):
        client.fetch()


def test_without_leave_the_network_is_not_used(hub: Hub, client: Client) -> None:
    with pytest.raises(CheckpointError, match=r"is not in the cache .*; load_pretrained\(.*\) downloads it") as caught:
        client.fetch(hub=False)
    assert not isinstance(caught.value, HubError)
    assert str(caught.value) == (
        f"{FILE} of {REPO} (revision main) is not in the cache {client.home / 'hub'}; {LOAD} downloads it (102.1 MB)"
    )
    assert hub.requests == []


def test_offline_mode(hub: Hub, client: Client) -> None:
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set; without it, load_pretrained\(.*, hub=True\) downloads"):
        client.fetch({"HF_HUB_OFFLINE": "1"})
    assert hub.requests == []


# Answers that are no


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo": "ada/resnet51"}, r"401 Unauthorized \(Invalid username or password\.\); check the name; what is pri"),
        ({"repo": "ada/resnet51", "token": "hf_bob"}, r"404 Not Found \(Repository not found\); check the name"),
        ({"token": "hf_nobody"}, r"401 Unauthorized \(Invalid credentials .*\); .*pass a valid token, or log in"),
        ({"revision": "v2"}, r"404 Not Found \(Invalid rev id: v2\); http://.*/ada/resnet50/commits/main lists"),
        ({"file": "weights.bin"}, r"404 Not Found \(Entry not found\); http://.*/ada/resnet50/tree/main lists the fil"),
        ({"repo": "ada/resnet/50"}, r"HFValidationError: .*; a repository is named 'owner/name'"),
    ],
)
def test_what_is_not_there(hub: Hub, client: Client, options: dict, message: str) -> None:
    with pytest.raises(HubError, match=message) as caught:
        client.fetch(**options)
    wanted = {"file": FILE, "repo": REPO, "revision": "main"} | options
    assert f"{wanted['file']} of {wanted['repo']} (revision {wanted['revision']}) from {hub.url}" in str(caught.value)
    assert client.kept() == []


def test_private_repository(hub: Hub, client: Client) -> None:
    hub.repositories[REPO].private = True
    with pytest.raises(HubError, match=r"404 Not Found.*check the name; what is private needs a token"):
        client.fetch(token="hf_bob")
    path = client.fetch(token="hf_ada")
    assert client.fetch(token="hf_bob") == path, "the cached copy is still there"


def test_a_token_with_a_line_break(hub: Hub, client: Client) -> None:
    hub.repositories[REPO].private = True
    assert client.fetch(token="hf_ada\n").read_bytes() == WEIGHTS
    with pytest.raises(HubError, match="401 Unauthorized") as caught:
        client.fetch(token="hf_secret\n", revision="v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "fault", "message"),
    [
        (
            "HEAD",
            server.status(403, "GatedRepo"),
            r"403 Forbidden \(by order .*\); ask for access at http.*/ada/resnet50",
        ),
        ("HEAD", server.status(403), "403 Forbidden .*pass a valid token, or log in"),
        ("HEAD", server.status(410), r"410 Gone \(by order of the test\); correct what it names, or HF_ENDPOINT"),
        ("HEAD", server.status(429), r"429 Too Many Requests .*; try again later"),
        ("HEAD", server.status(503), r"503 Service Unavailable .*; try again later"),
        ("HEAD", server.dropped, "disconnected without sending a response.*check the connection"),
        ("HEAD", server.foreign, "missing the 'X-Repo-Commit' header.*HF_ENDPOINT, and try again"),
        ("GET", server.status(403), "403 Forbidden .*pass a valid token"),
        ("GET", server.status(500), "500 Internal Server Error .*; try again later"),
        ("GET", server.shorter, "Consistency check failed: .*size 102400 but has size 102399.* try again"),
        ("GET", server.longer, "Consistency check failed: .*size 102400 but has size 102401.* try again"),
        ("GET", server.flipped, f"what arrived has sha256 .*, expected {SHA256}, twice; it was deleted"),
    ],
)
def test_faults(hub: Hub, client: Client, request_: str, fault: Fault, message: str) -> None:
    hub.order(request_, fault)
    began = time.monotonic()
    with pytest.raises(HubError, match=message):
        client.fetch()
    assert client.kept() == []
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("fault", [server.status(503), server.status(429), server.dropped, server.foreign])
def test_a_cached_copy_serves_while_the_hub_does_not(hub: Hub, client: Client, fault: Fault) -> None:
    path = client.fetch()
    hub.order("HEAD", fault)
    assert client.fetch() == path


def test_a_revision_that_is_gone_is_not_answered_from_the_cache(hub: Hub, client: Client) -> None:
    client.fetch(revision="v1")
    del hub.repositories[REPO].refs["v1"]
    with pytest.raises(HubError, match="Invalid rev id: v1"):
        client.fetch(revision="v1")


@pytest.mark.slow
def test_too_many_requests_for_the_file(hub: Hub, client: Client) -> None:
    hub.order("GET", server.status(429, Retry_After="0"))  # asked six times
    with pytest.raises(HubError, match=r"429 Too Many Requests .*; try again later"):
        client.fetch()
    assert client.kept() == []


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.cut, times=1)
    assert client.fetch().read_bytes() == WEIGHTS
    assert hub.count("GET /storage") == 2


@pytest.mark.slow
def test_a_connection_that_always_breaks(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.dropped)
    with pytest.raises(HubError, match=r"disconnected without sending a response.*check the connection"):
        client.fetch()
    assert client.kept() == []


@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["known", "the hub's"])
def test_one_wrong_byte_is_fetched_again(hub: Hub, client: Client, sha256: str) -> None:
    hub.order("GET /storage", server.flipped, times=1)
    path = client.fetch(sha256=sha256)
    assert path.read_bytes() == WEIGHTS
    assert hub.count("GET /storage") == 2
    assert client.fetch(sha256=sha256, hub=False) == path


def test_a_wrong_byte_twice(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.flipped, times=2)
    with pytest.raises(HubError, match="twice"):
        client.fetch(sha256=SHA256)
    assert hub.count("GET /storage") == 2
    assert client.kept() == []
    assert client.fetch(sha256=SHA256).read_bytes() == WEIGHTS, "the third is right"


def test_a_wrong_byte_and_then_nothing(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.flipped, times=1)
    hub.order("GET /storage", server.status(500))
    with pytest.raises(HubError, match="500 Internal"):
        client.fetch()
    assert client.kept() == [], "the wrong one does not stay"


def test_a_small_file_is_compared_with_the_sha256_that_is_known(hub: Hub, client: Client) -> None:
    hub.order("GET", server.flipped, times=1)
    assert client.fetch(file="config.json", sha256=hashlib.sha256(b"{}").hexdigest()).read_bytes() == b"{}"


# Servers that hang


def test_a_silent_hub(hub: Hub, client: Client) -> None:
    path = client.fetch()
    hub.order("HEAD", server.silent)
    hurried = {"HF_HUB_ETAG_TIMEOUT": "1"}
    assert client.fetch(hurried) == path
    began = time.monotonic()
    with pytest.raises(HubError, match=r"TimeoutError: timed out|ReadTimeout.*; check the connection"):
        client.fetch(hurried, revision="v1")
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_silent_hub_without_settings(hub: Hub, client: Client) -> None:
    hub.order("HEAD", server.silent)
    began = time.monotonic()
    with pytest.raises(HubError, match="check the connection"):
        client.fetch()
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_download_that_stalls(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.stalled)
    with pytest.raises(HubError, match="check the connection"):
        client.fetch({"HF_HUB_DOWNLOAD_TIMEOUT": "1"})
    assert client.kept() == []


def test_an_interrupted_download(hub: Hub, client: Client) -> None:
    hub.order("GET /storage", server.stalled)
    process = client.start("fetch", client.fetching())
    while process.poll() is None and not hub.count("GET /storage"):
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in complaints
    assert client.kept() == []


def test_a_cache_that_cannot_be_written(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match=r"NotADirectoryError: .*; make room and write access in .*file/cache, or pass"):
        client.fetch(cache_dir=str(tmp_path / "file/cache"))


# Uploads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / FILE).write_bytes(WEIGHTS)
    (made / "config.json").write_text('{"name": "resnet50"}')
    (made / "README.md").write_text("---\nlicense: mit\n---\n# resnet50\n")
    return made


def sent(hub: Hub, repo: str) -> dict[str, bytes]:
    found = hub.repositories[repo]
    return {path: content for path, content in found.commits[found.refs["main"]].items() if path[0] != "."}


@pytest.mark.parametrize("private", [False, True])
def test_push_makes_a_repository(hub: Hub, client: Client, folder: Path, private: bool) -> None:
    assert client.push(folder, "ada/new", private=private) == f"{hub.url}/ada/new"
    assert hub.repositories["ada/new"].private == private
    assert sent(hub, "ada/new") == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert client.fetch(repo="ada/new", token="hf_ada").read_bytes() == WEIGHTS


def test_push_to_a_repository_of_ones_own(hub: Hub, client: Client, folder: Path) -> None:
    assert client.push(folder) == f"{hub.url}/{REPO}"
    assert client.push(folder) == f"{hub.url}/{REPO}", "with nothing new"
    (folder / "config.json").write_text("{}")
    client.push(folder)
    assert sent(hub, REPO) == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("repo", "options", "message"),
    [
        ("ada/new", {"token": "hf_nobody"}, r"401 Unauthorized \(Invalid cred.*\); pass a valid token, or log in with"),
        ("ada/new", {"token": None}, r"401 Unauthorized .*; pass a valid token, or log in with `hf auth login`"),
        ("bob/new", {}, r"403 Forbidden \(You don't have the rights.*\); bob/new belongs to somebody else"),
        ("bob/taken", {}, r"403 Forbidden .*; bob/taken belongs to somebody else, or the token has no right to write"),
        (REPO, {"private": True}, r"is there already and is public; choose another name, make it private at http://"),
        ("ada/a b", {}, r"HFValidationError: .*; a repository is named 'owner/name'"),
    ],
)
def test_push_refused(hub: Hub, client: Client, folder: Path, repo: str, options: dict, message: str) -> None:
    hub.commit("bob/taken", {FILE: b"of bob"})
    before = sorted(hub.repositories)
    with pytest.raises(HubError, match=rf"push_to_hub: {repo} to {hub.url}: {message}|{message}"):
        client.push(folder, repo, **options)
    assert sorted(hub.repositories) == before
    assert sent(hub, "bob/taken") == {FILE: b"of bob"}


def test_push_of_a_card_that_the_hub_does_not_take(hub: Hub, client: Client, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: none of them\n---\n")
    with pytest.raises(HubError, match=r"400 Bad Request \(\"license\" must be one of the known ones\); correct what"):
        client.push(folder)


def test_push_that_breaks_off(hub: Hub, client: Client, folder: Path) -> None:
    hub.order("POST .*/commit/", server.status(500))
    with pytest.raises(HubError, match=r"500 Internal Server Error .*; try again later"):
        client.push(folder, "ada/new")
    hub.faults.clear()
    client.push(folder, "ada/new")
    assert sent(hub, "ada/new")[FILE] == WEIGHTS


def test_push_without_network(hub: Hub, client: Client, folder: Path) -> None:
    hub.stop()
    with pytest.raises(HubError, match=f"{REPO} to {hub.url}: .*Connection refused; check the con"):
        client.push(folder)


# torchvision's files


class Torchvision:
    """Fetches one file, whose address is not torchvision's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def fetch(self, url: str, *, sha256: str = SHA256[:8], hub: bool = True, cached: bool = True) -> Path:
        self.monkeypatch.setattr("torchvision.models.get_weight", lambda name: SimpleNamespace(url=url))
        return fetch_torchvision(
            "resnet50-abc.pth",
            "ResNet50_Weights.IMAGENET1K_V2",
            sha256=sha256,
            hub=hub,
            cache_dir=self.folder if cached else None,
            progress=False,
            size_mb=97.8,
            call="load_pretrained('resnet50', hub=True)",
        )

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*"))


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Torchvision:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return Torchvision(tmp_path / "torch", monkeypatch)


def test_torchvision_file(hub: Hub, torchvision: Torchvision) -> None:
    url = f"{hub.url}/storage/{SHA256}"
    path = torchvision.fetch(url)
    assert path == torchvision.folder / "resnet50-abc.pth"
    assert path.read_bytes() == WEIGHTS
    hub.stop()
    assert torchvision.fetch(url) == torchvision.fetch(url, hub=False) == path
    assert torchvision.kept() == [path.name]


def test_torchvision_file_in_the_folder_of_torch_hub(
    tmp_path: Path, torchvision: Torchvision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "published.pth").write_bytes(WEIGHTS)
    path = torchvision.fetch((tmp_path / "published.pth").as_uri(), cached=False)
    assert path == tmp_path / "home/hub/checkpoints/resnet50-abc.pth"
    assert path.read_bytes() == WEIGHTS


def test_torchvision_file_is_not_fetched_without_leave(torchvision: Torchvision) -> None:
    with pytest.raises(CheckpointError) as caught:
        torchvision.fetch("file:///nowhere", hub=False)
    assert str(caught.value) == (
        f"resnet50-abc.pth is not in the cache {torchvision.folder}; "
        "load_pretrained('resnet50', hub=True) downloads it (97.8 MB)"
    )
    assert torchvision.kept() == []


@pytest.mark.parametrize("fault", [server.flipped, server.shorter, server.cut])
def test_torchvision_file_with_another_hash(hub: Hub, torchvision: Torchvision, fault: Fault) -> None:
    url = f"{hub.url}/storage/{SHA256}"
    hub.order("GET", fault, times=3)
    with pytest.raises(
        HubError, match=rf'resnet50-abc\.pth .* from {url}: .*invalid hash value \(expected "{SHA256[:8]}'
    ):
        torchvision.fetch(url)
    assert hub.count("GET") == 2
    assert torchvision.kept() == []
    assert torchvision.fetch(url).read_bytes() == WEIGHTS, "the fourth is right, and was fetched again once"
    assert hub.count("GET") == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (server.status(404), "404: Not Found.*correct what it names"),
        (server.status(503), "503: Service Unavailable; try again later"),
        (server.dropped, "check the connection, proxies"),
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_torchvision_faults(hub: Hub, torchvision: Torchvision, method: str, fault: Fault, message: str) -> None:
    hub.order(method, fault)
    with pytest.raises(HubError, match=message):
        torchvision.fetch(f"{hub.url}/storage/{SHA256}")
    assert torchvision.kept() == []


def test_torchvision_without_network(hub: Hub, torchvision: Torchvision) -> None:
    hub.stop()
    with pytest.raises(HubError, match=r"Connection refused.*check the connection, proxies"):
        torchvision.fetch(f"{hub.url}/storage/{SHA256}")
    assert torchvision.kept() == []


def test_torchvision_in_offline_mode(hub: Hub, client: Client) -> None:
    options = {"file": "resnet50-abc.pth", "weights": "ResNet50_Weights.IMAGENET1K_V2", "sha256": "11ad3fa6"}
    asked = options | {"hub": True, "cache_dir": str(client.home), "progress": False, "call": LOAD}
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set; without it, load_pretrained\(.*\) downloads the file"):
        client.outcome(client.start("fetch_torchvision", asked, HF_HUB_OFFLINE="1"))


def test_torchvision_and_a_silent_server(hub: Hub, torchvision: Torchvision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.checkpoints.hub._CONNECTING", 1)
    hub.order("HEAD", server.silent)
    with pytest.raises(HubError, match=r"timed out.*check the connection"):
        torchvision.fetch(f"{hub.url}/storage/{SHA256}")
    assert torchvision.kept() == []
