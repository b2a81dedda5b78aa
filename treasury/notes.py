"""What the treasurer's own commands say about themselves: who gave them, and why. Pure."""

from treasury.errors import ReasonMissing

TEXT_LENGTH_MAX = 500
"""Characters of a reason or of an evidence's name."""


def note(treasurer: str, reason: str) -> dict[str, str]:
    """The metadata of a treasurer's command. Raises ReasonMissing."""
    said = reason.strip()
    if not 0 < len(said) <= TEXT_LENGTH_MAX:
        raise ReasonMissing(f"say why, in at most {TEXT_LENGTH_MAX} characters", param="reason")
    return {"reason": said, "by": treasurer}
