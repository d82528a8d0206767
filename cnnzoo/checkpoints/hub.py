"""Weights from elsewhere: from the Hugging Face Hub and from torchvision, and sent to the Hub.

huggingface_hub and torch.hub do the work, with their own caches and settings (`HF_HOME`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`, `TORCH_HOME`). What they raise leaves here as a `HubError`, and what they fetched is compared with its
sha256 once.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from cnnzoo.checkpoints.hub_errors import Request
from cnnzoo.errors import HubError

_CONNECTING = 10  # seconds to wait for torchvision's server; what huggingface_hub waits for the hub


def fetch(
    repo: str,
    file: str,
    *,
    revision: str | None,
    sha256: str,
    hub: bool,
    cache_dir: Path | None,
    token: str | None,
    progress: bool,
    size_mb: float | None = None,
    call: str = "",
) -> Path:
    """A file of a repository on the Hugging Face Hub: from the cache, or downloaded into it where `hub` says so.

    A cached file that a commit or a sha256 fixes is the one. For a branch or a tag the hub is asked whether there is a
    newer one; if it does not answer, the cached file serves.

    Args:
        repo: `"owner/name"`.
        file: its path in the repository.
        revision: branch, tag or commit; None is `main`.
        sha256: what the file must have, in hexadecimal; `""` takes the hub's word, which it gives for large files.
        hub: whether the network may be used.
        cache_dir: instead of huggingface_hub's.
        token: of the hub; None is the one that is stored.
        progress: whether to show a progress bar.
        size_mb: size of the file in 10^6 bytes, for the message.
        call: what downloads the file, for the message.

    Raises:
        CheckpointError: `hub` is false and the file is not cached.
        HubError: the file is unavailable or its checksum does not match; nothing of it is kept.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    at = revision or constants.DEFAULT_REVISION
    token = (token or "").strip() or None  # with a line break at its end it would stand in an error message
    asked = Request(f"{file} of {repo} (revision {at})", constants.ENDPOINT, repo, at, cache, call)

    def download(again: bool) -> Path:
        bar = None if progress else _no_bar()
        options = {"revision": at, "cache_dir": cache, "token": token, "tqdm_class": bar, "force_download": again}
        return Path(hf_hub_download(repo, file, **options))

    with asked.explained():
        cached = _cached(repo, file, at, sha256, cache)
        if cached is not None and (sha256 or re.fullmatch("[0-9a-f]{40}", at) or not hub):
            return cached
        if not hub:
            raise asked.not_cached(size_mb)
        # hf_hub_download repeats a question that got no answer, for half a minute and more. This one is asked once.
        try:
            known = get_hf_file_metadata(
                hf_hub_url(repo, file, revision=at), token=token, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
        except Exception as error:
            if cached is None or isinstance(error, (RevisionNotFoundError, EntryNotFoundError)):
                raise
            return cached
        if cached is not None and known.commit_hash in cached.parts:
            return cached
        etag = known.etag if re.fullmatch("[0-9a-f]{64}", known.etag or "") else ""
        if sha256 and etag and etag != sha256:
            raise HubError(
                f"{asked}: another file is there now: sha256 {etag}, expected {sha256}; name the revision that has it"
            )
        path = download(False)
        if path != cached:
            path = _checked(path, sha256 or etag or "", download, asked)
        return path


def fetch_torchvision(
    file: str,
    weights: str,
    *,
    sha256: str,
    hub: bool,
    cache_dir: Path | None,
    progress: bool,
    size_mb: float | None = None,
    call: str = "",
) -> Path:
    """A file that torchvision publishes: from torch.hub's folder, or downloaded into it where `hub` says so.

    Args:
        file: its name.
        weights: torchvision's name for it, which knows the address: `"ResNet50_Weights.IMAGENET1K_V2"`.
        sha256: how the file's sha256 begins, in hexadecimal; `""` if it is not known.
        hub: whether the network may be used.
        cache_dir: instead of torch.hub's folder.
        progress: whether to show a progress bar.
        size_mb: size of the file in 10^6 bytes, for the message.
        call: what downloads the file, for the message.

    Raises:
        CheckpointError: `hub` is false and the file is not there.
        HubError: the file is unavailable or its checksum does not match; nothing of it is kept.
    """
    from urllib import request

    import torch.hub

    folder = Path(cache_dir or Path(torch.hub.get_dir(), "checkpoints")).expanduser()
    path = folder / file
    if path.is_file():
        return path
    if not hub:
        raise Request(file, cache=folder, call=call).not_cached(size_mb)

    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import OfflineModeIsEnabled
    from torchvision.models import get_weight

    url = get_weight(weights).url
    asked = Request(f"{file} ({weights})", url, cache=folder, call=call)

    def download() -> None:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256 or None, progress=progress)

    with asked.explained():
        if is_offline_mode():
            raise OfflineModeIsEnabled("offline mode is enabled")
        # torch.hub waits without limit for a server that does not answer.
        with request.urlopen(request.Request(url, method="HEAD"), timeout=_CONNECTING):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            download()
        except RuntimeError:  # its hash is another one
            download()
    return path


def push(folder: Path, repo_id: str, *, private: bool, token: str | None, message: str) -> str:
    """Send the files of a folder to a repository on the Hugging Face Hub, which is made where it is missing.

    Args:
        folder: what to send, hidden folders of git and of the client apart.
        repo_id: `"owner/name"`.
        private: whether only its owners may see it. What is there already keeps what it is.
        token: of the hub, with the right to write; None is the one that is stored.
        message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        HubError: the hub refused, could not be reached, or has a public repository of this name that was to be private.
    """
    from huggingface_hub import HfApi, constants

    asked = Request(repo_id, constants.ENDPOINT, repo_id, writing=True)
    with asked.explained():
        api = HfApi(token=(token or "").strip() or None)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise HubError(
                f"{asked}: the repository is there already and is public; choose another name, "
                f"make it private at {address}/settings, or pass private=False"
            )
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return str(address)


def _cached(repo: str, file: str, revision: str, sha256: str, cache: Path) -> Path | None:
    """The cached file, unless its name in the cache shows that it is another version than the one of that sha256."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, cache_dir=cache, revision=revision)
    if not isinstance(found, str):
        return None
    path = Path(found)
    etag = path.readlink().name if path.is_symlink() else ""
    another = sha256 and len(etag) == len(sha256) and etag != sha256
    return None if another else path


def _checked(path: Path, expected: str, download: Callable[[bool], Path], asked: Request) -> Path:
    """The downloaded file, if need be downloaded a second time, with the sha256 that it must have."""
    try:
        if expected and _sha256(path) != expected:
            if not path.is_symlink():  # the client puts a new blob behind a link, but not over a file
                path.unlink(missing_ok=True)
            path = download(True)
            if (got := _sha256(path)) != expected:
                raise HubError(
                    f"{asked}: what arrived has sha256 {got}, expected {expected}, twice; "
                    "it was deleted; try again later, or through another network"
                )
    except BaseException:  # an interruption too: what is in the cache is not looked at again
        blob = path.resolve()
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise
    return path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:  # another process found it wrong, and deleted it
        return ""


def _no_bar() -> type:
    from huggingface_hub.utils import tqdm

    class NoBar(tqdm):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options | {"disable": True})

    return NoBar
