"""What the clients of the hub and of torchvision raise, as one `HubError` that says what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from cnnzoo.errors import CheckpointError, HubError


@dataclass(frozen=True)
class Request:
    """What was asked of whom, as the messages have it."""

    what: str
    endpoint: str = ""
    repo: str = ""
    revision: str = ""
    cache: Path = Path()
    call: str = ""
    writing: bool = False

    def __str__(self) -> str:
        return f"{self.what} {'to' if self.writing else 'from'} {self.endpoint}"

    def not_cached(self, size_mb: float | None) -> CheckpointError:
        size = f" ({size_mb:.1f} MB)" if size_mb else ""
        return CheckpointError(
            f"{self.what} is not in the cache {self.cache}; {self.call or 'hub=True'} downloads it{size}"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn whatever a client raises into a `HubError` that says what was asked, what came back and what to do."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # the clients raise those of httpx, urllib, requests and the file system, too
            chain: list[BaseException] = [error]
            while (cause := chain[-1].__cause__) is not None:
                chain.append(cause)
            for one in chain:
                if isinstance(one, HTTPError):  # it is the answer as well, and holds the connection
                    one.close()
            raise HubError(f"{self}: {_came_back(chain)}; {self._remedy(chain)}") from error

    def _remedy(self, chain: list[BaseException]) -> str:
        from huggingface_hub import errors

        def raised(*kinds: type) -> bool:
            return any(isinstance(error, kinds) for error in chain)

        page = f"{self.endpoint}/{self.repo}"
        status = _status(chain)
        if raised(errors.OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set; without it, {self.call or 'hub=True'} downloads the file"
        if raised(errors.HFValidationError):
            return "a repository is named 'owner/name'"
        if raised(errors.RevisionNotFoundError):
            return f"{page}/commits/main lists the commits, and its menu the branches and tags"
        if raised(errors.RemoteEntryNotFoundError):
            return f"{page}/tree/{self.revision} lists the files"
        if raised(errors.GatedRepoError):
            return f"ask for access at {page}, and pass the token of the account that has it"
        if self.writing and status == 403:
            return (
                f"{self.repo} belongs to somebody else, or the token has no right to write there; choose another name, "
                f"or a token that may write ({self.endpoint}/settings/tokens)"
            )
        if status in (401, 403) or raised(errors.RepositoryNotFoundError):
            name = "" if self.writing else "check the name; what is private needs a token: "
            return f"{name}pass a valid token, or log in with `hf auth login`"
        if status in (408, 429) or (status and status >= 500):
            return "try again later"
        if status:
            return "correct what it names, or HF_ENDPOINT"
        if any(isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC) for error in chain):
            return f"make room and write access in {self.cache}, or pass another cache_dir"
        return "check the connection, proxies and HF_ENDPOINT, and try again"


def _status(chain: list[BaseException]) -> int | None:
    for error in chain:
        response = getattr(error, "response", None)
        status = response.status_code if response is not None else getattr(error, "code", None)
        if isinstance(status, int):
            return status
    return None


def _came_back(chain: list[BaseException]) -> str:
    """The server's answer, or the first cause of there being none."""
    for error in chain:
        response = getattr(error, "response", None)
        if response is not None:
            said = " ".join((getattr(error, "server_message", None) or "").split())
            return f"{response.status_code} {response.reason_phrase}" + (f" ({said[:300]})" if said else "")
    text = " ".join(str(chain[-1]).split())
    return f"{type(chain[-1]).__name__}: {text[:300]}"
