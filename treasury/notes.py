"""What the treasurer's own commands say about themselves: who gave them, and why. Pure."""

from treasury.errors import ReasonMissing

TEXT_LENGTH_MAX = 500
"""Characters of a reason or of an evidence's name."""


def note(treasurer: str, reason: str, *, confirmed_by: str | None = None) -> dict[str, str]:
    """The metadata of a treasurer's command. Raises ReasonMissing."""
    said = {"reason": said_in_full(reason), "by": treasurer}
    return said if confirmed_by is None else {**said, "confirmed_by": confirmed_by}


def said_in_full(reason: str, *, param: str = "reason") -> str:
    """What a person gave as the reason, without blanks around it. Raises ReasonMissing: none, or too long a one."""
    said = reason.strip()
    if not 0 < len(said) <= TEXT_LENGTH_MAX:
        raise ReasonMissing(f"say why, in at most {TEXT_LENGTH_MAX} characters", param=param)
    return said
