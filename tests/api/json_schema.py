"""As much of JSON Schema as our own document uses: what an answer has that its schema does not allow."""

from collections.abc import Iterator
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),), "boolean": (bool,), "integer": (int,), "number": (int, float), "string": (str,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], document: dict[str, Any], place: str = "$") -> Iterator[str]:
    """Each fault as "place: what"; fields that the schema does not name are faults too."""
    if "$ref" in schema:
        yield from faults(value, followed(schema["$ref"], document), document, place)
    elif "anyOf" in schema:
        if not any(not list(faults(value, part, document, place)) for part in schema["anyOf"]):
            yield f"{place}: {value!r:.60} fits none of the alternatives"
    elif "const" in schema or "enum" in schema:
        if value not in schema.get("enum", [schema.get("const")]):
            yield f"{place}: {value!r:.60} is none of the values"
    elif not isinstance(value, TYPES[schema["type"]]) or (
        isinstance(value, bool) and schema["type"] != "boolean"
    ):
        yield f"{place}: {value!r:.60} is no {schema['type']}"
    elif isinstance(value, dict) and "properties" in schema:
        yield from _object_faults(value, schema, document, place)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from faults(part, schema["items"], document, f"{place}[{number}]")


def followed(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    """What a reference inside the document leads to. Raises KeyError when it leads nowhere."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _object_faults(
    value: dict[str, Any], schema: dict[str, Any], document: dict[str, Any], place: str
) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{place}.{name}: is missing"
    for name, part in value.items():
        if name not in schema["properties"] and schema.get("additionalProperties") is True:
            continue
        if name not in schema["properties"]:
            yield f"{place}.{name}: is not in the schema"
        else:
            yield from faults(part, schema["properties"][name], document, f"{place}.{name}")
