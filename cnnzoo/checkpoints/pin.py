"""For maintainers: pins the table's checkpoints to what the hub has now."""

import re
from importlib.resources import files
from pathlib import Path

from cnnzoo.support.files import replacing


def pin(table: Path | None = None) -> int:
    """Write revision and sha256 of every repository in the table into its line.

    Args:
        table: by default the one of this checkout.

    Returns:
        How many lines name a repository.
    """
    from huggingface_hub import HfApi

    table = table or Path(str(files("cnnzoo").joinpath("checkpoints/table.toml")))
    api, pinned, lines = HfApi(), 0, []
    for line in table.read_text("utf-8").splitlines():
        repository = re.search(r'repo = "([^"]+)"', line)
        if repository:
            info = api.model_info(repository[1], files_metadata=True)
            weights = next(one for one in info.siblings or () if one.rfilename == "model.safetensors")
            known = {"revision": info.sha, "sha256": weights.lfs.sha256 if weights.lfs else None}
            for key, value in known.items():
                line = re.sub(rf', {key} = "[^"]*"', "", line)
                if value:
                    line = line.replace(repository[0], f'{repository[0]}, {key} = "{value}"')
            pinned += 1
        lines.append(line)
    with replacing(table) as aside:
        aside.write_text("\n".join(lines) + "\n", "utf-8")
    return pinned
