"""Whether a commit message is as CONTRIBUTING asks: the hook `subject` of .pre-commit-config.yaml runs it."""

import sys
from pathlib import Path

LONGEST = 72


def fault(message: str) -> str:
    """What is wrong with a message, or nothing; lines that begin with # are git's own."""
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    subject, *body = lines or [""]
    if not subject:
        return "the first line is empty; it says what changes"
    if len(subject) > LONGEST and not subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return f"the first line has {len(subject)} characters; it takes at most {LONGEST}, the body says why"
    if subject.endswith("."):
        return "the first line ends with a full stop; leave it out"
    if body and body[0]:
        return "the second line is not blank"
    return ""


if __name__ == "__main__":
    sys.exit(fault(Path(sys.argv[1]).read_text("utf-8")) or 0)
