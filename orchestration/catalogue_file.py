"""The shape of a catalogue file: TOML with providers and models. Reads and checks it, stores nothing.

Called by `orchestration/catalogue.py`. Fields it does not know are left to later versions.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from orchestration.models import Provider

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=100)]
Share = Annotated[float, Field(ge=0, le=1)]


class CatalogueError(Exception):
    """The file cannot be loaded; says where and why."""


class ProviderRow(BaseModel):
    model_config = ConfigDict(strict=True)

    id: Annotated[Id, Field(max_length=60)]
    label: str = Field("", max_length=100)
    wire: Literal[tuple(Provider.Wire.values)]  # type: ignore[valid-type]
    base_url: str = Field(min_length=1, max_length=300)
    country: str = Field(pattern=r"^[A-Z]{2}$")


class TierRow(BaseModel):
    """Prices of a request whose input is longer than `above_tokens`, in the same units as the price's."""

    model_config = ConfigDict(strict=True)

    above_tokens: int = Field(ge=1, le=2**31 - 1)
    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None


class PriceRow(BaseModel):
    """Decimal texts, in the currency per million tokens (an image: each)."""

    model_config = ConfigDict(strict=True)

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None
    image: str | None = None
    tier: TierRow | None = None
    is_free: bool = False


class ModelRow(BaseModel):
    model_config = ConfigDict(strict=True)

    id: Id
    provider: str
    upstream_id: str = Field(min_length=1, max_length=100)
    label: str = Field(min_length=1, max_length=100)
    price: PriceRow
    markup_bp: int = Field(ge=0, le=1_000_000)
    description_ru: str = ""
    capabilities: list[str] = ["text"]
    context_tokens: int = Field(8192, ge=1, le=2**31 - 1)
    max_output_tokens: int = Field(4096, ge=1, le=2**31 - 1)
    quality: Share | dict[str, Share] = 0.5
    privacy_tier: str = Field("standard", max_length=20)
    hosted_region: str = Field("", max_length=20)
    risk: str = Field("standard", max_length=20)
    enabled: bool = True


Row = TypeVar("Row", ProviderRow, ModelRow)


def read(path: Path) -> tuple[str, list[ProviderRow], list[ModelRow]]:
    """The text of a file, its providers and its models. Raises CatalogueError with the place."""
    text = text_of(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{path.name}: {error}") from error
    providers = _rows(content, "provider", ProviderRow, path)
    models = _rows(content, "model", ModelRow, path)
    if not models:
        raise CatalogueError(f"{path.name} names no model.")
    return text, providers, models


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path.name} is not UTF-8.") from error


def _rows(content: dict[str, Any], kind: str, shape: type[Row], path: Path) -> list[Row]:
    tables = content.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise CatalogueError(f"{path.name}: write each {kind} as a table [[{kind}]].")
    rows: dict[str, Row] = {}
    for table in tables:
        try:
            row = shape.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CatalogueError(
                f"{path.name}: {kind} {table.get('id', '?')}: {place}: {first['msg']}."
            ) from error
        if row.id in rows:
            raise CatalogueError(f"{path.name}: {kind} {row.id} stands there twice.")
        rows[row.id] = row
    return list(rows.values())
