"""The reason of an operator's act: one rule for every form and every act that asks for one."""

from plyrum.errors import InvalidRequest

SHORTEST, LONGEST = 10, 300  # characters; shorter says nothing, longer belongs into a document


def required(reason: str) -> str:
    """The reason without the space around it. Raises InvalidRequest when it is too short or too long."""
    said = reason.strip()
    if not SHORTEST <= len(said) <= LONGEST:
        text = f"Say why, in {SHORTEST} to {LONGEST} characters."
        raise InvalidRequest(text, errors=[{"loc": ["body", "reason"], "msg": text, "type": "value_error"}])
    return said
