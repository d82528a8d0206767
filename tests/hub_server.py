"""A small Hugging Face Hub on the loopback interface, for the real client, with faults to order.

Repositories, branches, tags, commits, private ones, tokens, renamed ones; small files are answered at once and large
ones with a redirect to a storage that is another origin, as on the hub. Uploads take the LFS way. Sources: the
client's own code, and https://huggingface.co/docs/hub/api.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 512  # bytes, from which on a file is stored as LFS


@dataclass(frozen=True)
class Answer:
    """What the server says to a request.

    Attributes:
        sent: bytes of the body that leave before the connection is cut; None is all of them, -1 is no answer at all.
        hangs: whether the connection then stays open, without another word.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None
    hangs: bool = False


Fault = Callable[[Answer], Answer]


def status(code: int, error: str = "", **headers: str) -> Fault:
    """Another status than the true one, with the hub's name for what is wrong."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"X-Error-Message": "by order of the test"} | ({"X-Error-Code": error} if error else {})
    return lambda answer: Answer(code, named, b"Not what you wanted.")


def cut(answer: Answer) -> Answer:
    """The connection breaks in the middle of the body."""
    return replace(answer, sent=len(answer.body) // 2)


def dropped(answer: Answer) -> Answer:
    """The connection closes before a word is said."""
    return replace(answer, sent=-1)


def shorter(answer: Answer) -> Answer:
    """A whole body, as its length says, of which the last byte is missing."""
    return replace(answer, body=answer.body[:-1])


def longer(answer: Answer) -> Answer:
    """A whole body, as its length says, with a byte too many."""
    return replace(answer, body=answer.body + b"\0")


def flipped(answer: Answer) -> Answer:
    """The right size, and one wrong bit."""
    return replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 1]))


def silent(answer: Answer) -> Answer:
    """The connection is accepted, and nothing is ever said."""
    return replace(answer, sent=-1, hangs=True)


def stalled(answer: Answer) -> Answer:
    """Half of the body, and then nothing."""
    return replace(answer, sent=len(answer.body) // 2, hangs=True)


def foreign(answer: Answer) -> Answer:
    """A page of somebody else, such as the one of a hotel that wants a login."""
    return Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome!</html>")


class Refused(Exception):
    """A request that the hub itself turns down."""

    def __init__(self, code: int, error: str = "", said: str = "") -> None:
        super().__init__(code, error, said)
        headers = {"X-Error-Code": error, "X-Error-Message": said}
        body = json.dumps({"error": said}).encode()
        self.answer = Answer(code, {name: value for name, value in headers.items() if value}, body)


@dataclass
class Repository:
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)  # branch or tag: commit
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit: path: content


class Hub:
    """The server. `with Hub() as hub:` runs it; `hub.url` is what `HF_ENDPOINT` has to be."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.users = {"hf_ada": "ada", "hf_bob": "bob"}  # token: name, and namespace that it may write to
        self.stored: dict[str, bytes] = {}  # by sha256
        self.requests: list[str] = []  # "GET /path"
        self.authorized: list[str] = []  # those that brought a token
        self.faults: list[tuple[str, Fault, int]] = []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.hub = self
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "Hub":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening: from now on, connections are refused."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.server.shutdown()
            self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.server.server_port}/storage"

    def commit(self, repo: str, files: dict[str, bytes], *, branch: str = "main", tag: str | None = None) -> str:
        """Add files to a branch of a repository, made where it is missing; the commit's identifier."""
        known = self.repositories.setdefault(repo, Repository())
        parent = known.refs.get(branch, "")
        files = known.commits.get(parent, {}) | files
        digest = hashlib.sha1(parent.encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        commit = digest.hexdigest()
        known.commits[commit] = files
        known.refs[branch] = commit
        if tag is not None:
            known.refs[tag] = commit
        self.stored |= {hashlib.sha256(content).hexdigest(): content for content in files.values()}
        return commit

    def order(self, request: str, fault: Fault, times: int = 1_000_000) -> None:
        """Let a fault happen to the next requests that the pattern matches, as in `"GET /storage"`."""
        self.faults.append((request, fault, times))

    def count(self, request: str) -> int:
        """How many requests there were that the pattern matches."""
        return sum(re.match(request, one) is not None for one in self.requests)

    def spoilt(self, request: str, answer: Answer) -> Answer:
        with self.lock:
            for index, (pattern, fault, times) in enumerate(self.faults):
                if times and re.match(pattern, request):
                    self.faults[index] = (pattern, fault, times - 1)
                    return fault(answer)
        return answer

    # What the hub answers; `user` is whose token came along, or None.

    def visible(self, repo: str, user: str | None) -> Repository:
        found = self.repositories.get(repo)
        if found is None or (found.private and user != repo.partition("/")[0]):
            if user is None:  # the hub does not tell strangers what is private and what is missing
                raise Refused(401, said="Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        return found

    def writable(self, repo: str, user: str | None) -> Repository:
        found = self.visible(repo, user)
        if user is None:
            raise Refused(401, said="Invalid username or password.")
        if user != repo.partition("/")[0]:
            raise Refused(403, said="Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return found

    def files(self, found: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        commit = found.refs.get(revision, revision)
        if commit not in found.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, found.commits[commit]

    def resolve(self, user: str | None, content: bytes, repo: str, revision: str, file: str) -> Answer:
        if repo in self.renamed:
            return Answer(307, {"Location": f"/{self.renamed[repo]}/resolve/{revision}/{file}"})
        commit, files = self.files(self.visible(repo, user), unquote(revision))
        if file not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        body = files[file]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(body) < LARGE:
            blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()  # as git names it
            return Answer(200, headers | {"ETag": f'"{blob}"'}, body)
        oid = hashlib.sha256(body).hexdigest()
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(body)), "ETag": '"of-the-pointer"'}
        return Answer(302, headers | linked | {"Location": f"{self.storage}/{oid}"})

    def download(self, user: str | None, content: bytes, oid: str) -> Answer:
        if oid not in self.stored:
            raise Refused(404)
        return Answer(200, {"ETag": '"of-the-storage"', "Accept-Ranges": "bytes"}, self.stored[oid])

    def upload(self, user: str | None, content: bytes, oid: str) -> Answer:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, said="The content does not match its sha256")
        self.stored[oid] = content
        return Answer()

    def info(self, user: str | None, content: bytes, repo: str, revision: str | None = None) -> Answer:
        found = self.visible(repo, user)
        commit, files = self.files(found, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        return _json({"id": repo, "modelId": repo, "sha": commit, "private": found.private, "siblings": siblings})

    def create(self, user: str | None, content: bytes) -> Answer:
        asked = json.loads(content)
        if user is None:
            raise Refused(401, said="Invalid username or password.")
        namespace = asked.get("organization") or user
        repo = f"{namespace}/{asked['name']}"
        if namespace != user:
            raise Refused(403, said=f"You don't have the rights to create a model under the namespace {namespace!r}")
        address = {"url": f"{self.url}/{repo}"}
        if repo in self.repositories:
            return replace(_json(address | {"error": "You already created this model repo"}), status=409)
        self.repositories[repo] = Repository(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        self.commit(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
        return _json(address)

    def card(self, user: str | None, content: bytes) -> Answer:
        if "license: none of them" in json.loads(content)["content"]:
            raise Refused(400, said='"license" must be one of the known ones')
        return _json({"errors": [], "warnings": []})

    def preupload(self, user: str | None, content: bytes, repo: str, revision: str) -> Answer:
        self.writable(repo, user)
        files = json.loads(content)["files"]
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["size"] >= LARGE else "regular", "shouldIgnore": False}
            for file in files
        ]
        return _json({"files": modes})

    def batch(self, user: str | None, content: bytes, repo: str) -> Answer:
        self.writable(repo, user)
        objects = [
            one
            if one["oid"] in self.stored
            else one | {"actions": {"upload": {"href": f"{self.storage}/{one['oid']}", "header": {}}}}
            for one in json.loads(content)["objects"]
        ]
        return _json({"transfer": "basic", "objects": objects})

    def accept(self, user: str | None, content: bytes, repo: str, revision: str) -> Answer:
        self.writable(repo, user)
        files = {}
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
        commit = self.commit(repo, files, branch=revision)
        return _json({"success": True, "commitOid": commit, "commitUrl": f"{self.url}/{repo}/commit/{commit}"})


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (rf"(HEAD|GET) /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", Hub.resolve),
    (r"(HEAD|GET) /storage/(?P<oid>\w{64})", Hub.download),
    (r"PUT /storage/(?P<oid>\w{64})", Hub.upload),
    (rf"GET /api/models/{_REPO}(/revision/(?P<revision>[^/]+))?", Hub.info),
    (r"POST /api/repos/create", Hub.create),
    (r"POST /api/validate-yaml", Hub.card),
    (rf"POST /api/models/{_REPO}/preupload/(?P<revision>[^/]+)", Hub.preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", Hub.batch),
    (rf"POST /api/models/{_REPO}/commit/(?P<revision>[^/]+)", Hub.accept),
]


def _json(value: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


class _Server(ThreadingHTTPServer):
    hub: Hub

    def handle_error(self, request, client_address) -> None:
        """Say nothing: a client that goes away is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args) -> None:
        """Say nothing."""

    def respond(self) -> None:
        hub = self.server.hub
        request = f"{self.command} {urlsplit(self.path).path}"
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with hub.lock:
            hub.requests.append(request)
            if token:
                hub.authorized.append(request)
        try:
            answer = self.true_answer(request, content, token)
        except Refused as refused:
            answer = refused.answer
        self.send(hub.spoilt(request, answer))

    do_HEAD = do_GET = do_POST = do_PUT = respond

    def true_answer(self, request: str, content: bytes, token: str) -> Answer:
        hub = self.server.hub
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, request):
                named = {name: value for name, value in found.groupdict().items() if value is not None}
                if token and token not in hub.users:
                    raise Refused(401, said="Invalid credentials in Authorization header")
                with hub.lock:
                    return self.part(route(hub, hub.users.get(token), content, **named))
        raise Refused(404, said=f"This hub does not know {request}")

    def part(self, answer: Answer) -> Answer:
        """The range that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or answer.status != 200:
            return answer
        start, size = int(asked[1]), len(answer.body)
        headers = answer.headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        return Answer(206, headers, answer.body[start:])

    def send(self, answer: Answer) -> None:
        if answer.sent != -1:
            self.send_response(answer.status)
            for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.sent])
                self.wfile.flush()
        if answer.hangs:
            self.server.hub.stopping.wait(60)
        if answer.sent is not None or answer.hangs:
            self.close_connection = True
