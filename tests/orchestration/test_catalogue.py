"""The catalogue: loaded from files that may be wrong, read as one snapshot."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from pytest_django import Settings

from auditlog.actors import SYSTEM
from auditlog.models import AuditEvent
from billing import prices
from billing.models import FxRate, PriceVersion
from orchestration import catalogue, catalogue_file, switching
from orchestration.catalogue_file import CatalogueError
from orchestration.models import CatalogueVersion, Model, Provider
from plyrum import clock
from plyrum.ids import uuid7
from tests.threads import at_once

Load = Callable[..., CatalogueVersion]

PROVIDER = """
[[provider]]
id = "{id}-host"
wire = "openai_chat"
base_url = "https://api.example.com/v1"
country = "RU"
"""
MODEL = """
[[model]]
id = "{id}/model"
provider = "{id}-host"
upstream_id = "model"
label = "Model"
markup_bp = 13000
price = {{ currency = "RUB", input = "24", output = "96" }}
"""


@pytest.fixture
def own() -> str:
    """A name that no other test uses for its provider and model."""
    return f"c{uuid7().hex}"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads the tests' catalogue with more in it, so that nothing others rely on is ever gone."""
    usual = configured.PLYRUM_CATALOGUE_PATH.read_text(encoding="utf-8")

    def load_with(more: str = "", name: str = "catalogue.toml") -> CatalogueVersion:
        path = tmp_path / name
        path.write_text(usual + more, encoding="utf-8")
        return catalogue.load(path, now=clock.now(), actor=SYSTEM)

    yield load_with
    call_command("load_catalogue", verbosity=0)
    catalogue.refresh()


def both(own: str, *, provider: str = "", model: str = "") -> str:
    """A provider and a model with further lines."""
    return PROVIDER.format(id=own) + provider + MODEL.format(id=own) + model


def offer_of(own: str) -> Any:
    return catalogue.refresh().offers[f"{own}/model"]


def versions(own: str) -> list[tuple[int, int]]:
    rows = PriceVersion.objects.filter(sku=f"{own}/model").order_by("number")
    return list(rows.values_list("number", "output"))


def test_loaded_model_is_offered_with_its_price(load: Load, own: str, settings: Settings) -> None:
    settings.PROVIDER_API_KEYS = {f"{own.upper()}_HOST": ("key",)}

    load(both(own))

    offer = offer_of(own)
    assert (offer.is_enabled, offer.is_configured) == (True, True)
    assert (offer.price.output, offer.price.markup_bp, offer.price.fx_micro_rub) == (
        96_000_000,
        13_000,
        10**6,
    )
    assert (offer.context_tokens, offer.max_output_tokens, offer.quality) == (8192, 4096, 0.5)
    assert catalogue.current().base_urls[f"{own}-host"] == "https://api.example.com/v1"


def test_every_load_is_journalled_with_its_hash(load: Load) -> None:
    version = load()

    event = AuditEvent.objects.get(subject=f"catalogue:{version.number}")
    assert event.data["sha256"] == version.sha256
    assert event.data["models"] > 10


def test_loading_twice_changes_nothing(load: Load, own: str) -> None:
    first = load(both(own))
    rows = list(Model.objects.order_by("id").values())
    prices = PriceVersion.objects.count()

    second = load(both(own))

    assert second.sha256 == first.sha256
    assert second.number > first.number
    assert list(Model.objects.order_by("id").values()) == rows
    assert PriceVersion.objects.count() == prices
    assert versions(own) == [(1, 96_000_000)]


def test_changed_price_adds_a_version_and_leaves_the_old(load: Load, own: str) -> None:
    load(both(own))
    load(both(own).replace('output = "96"', 'output = "97.5"'))
    load(both(own))

    assert versions(own) == [(1, 96_000_000), (2, 97_500_000), (3, 96_000_000)]
    assert offer_of(own).price.output == 96_000_000


def test_model_that_a_file_no_longer_names_is_unlisted_and_comes_back(load: Load, own: str) -> None:
    load(both(own))
    load()
    assert not offer_of(own).is_enabled
    assert Model.objects.filter(id=f"{own}/model").exists()

    load(both(own))

    assert offer_of(own).is_enabled


def test_model_may_be_in_the_file_and_off(load: Load, own: str) -> None:
    load(both(own, model="enabled = false\n"))

    assert not offer_of(own).is_enabled


@pytest.mark.parametrize("kind", ["model", "provider"])
def test_operators_switch_survives_a_load(load: Load, own: str, kind: str) -> None:
    load(both(own))
    if kind == "model":
        switching.switch_model(model_id=f"{own}/model", is_enabled=False, reason="Проба", actor=SYSTEM)
    else:
        switching.switch_provider(provider_id=f"{own}-host", is_enabled=False, reason="Проба", actor=SYSTEM)
    assert not offer_of(own).is_enabled

    load(both(own))

    assert not offer_of(own).is_enabled


def test_quality_may_be_a_table_by_task(load: Load, own: str) -> None:
    load(both(own, model="quality = { general = 0.7, code = 0.9 }\n"))
    assert offer_of(own).quality == 0.7

    load(both(own, model="quality = { code = 0.9 }\n"))
    assert offer_of(own).quality == 0.5


def test_whole_numbers_are_shares_too(load: Load, own: str) -> None:
    load(both(own, model="quality = 1\n"))

    assert offer_of(own).quality == 1.0


def test_currency_without_a_rate_has_no_price(load: Load, own: str) -> None:
    load(both(own).replace('"RUB"', '"XAU"'))

    assert offer_of(own).price is None


def test_price_in_another_currency_has_its_newest_rate(load: Load, own: str) -> None:
    load(both(own).replace('"RUB"', '"USD"'))

    price = offer_of(own).price
    newest = FxRate.objects.filter(currency="USD").order_by("-rate_date", "-id")[0]
    assert (price.fx_rate_id, price.fx_micro_rub) == (newest.id, newest.micro_rub)


def rate(currency: str, micro_rub: int, *, days_ago: int = 0) -> FxRate:
    day = clock.now().date() - timedelta(days=days_ago)
    prices.add_rate(currency=currency, micro_rub=micro_rub, source=uuid7().hex, rate_date=day)
    return FxRate.objects.filter(currency=currency).latest("id")


def test_new_rate_reaches_the_snapshot_without_a_new_catalogue(load: Load, own: str) -> None:
    load(both(own).replace('"RUB"', '"YRA"'))
    first = rate("YRA", 80_000_000, days_ago=1)
    version, before = catalogue.refresh().version, offer_of(own).price.fx_rate_id

    second = rate("YRA", 81_000_000)

    assert (before, offer_of(own).price.fx_rate_id) == (first.pk, second.pk)
    after = catalogue.refresh()
    assert after.version == version
    assert catalogue.refresh() is after


def test_model_is_sold_by_a_rate_until_it_is_too_old(load: Load, own: str) -> None:
    load(both(own).replace('"RUB"', '"YRB"'))
    known = rate("YRB", 80_000_000)
    last_day = datetime.combine(known.rate_date, time(23, 59), UTC) + timedelta(days=4)

    with time_machine.travel(last_day):
        sold = offer_of(own)
    with time_machine.travel(last_day + timedelta(minutes=1)):
        unsold = offer_of(own)

    assert (sold.price.fx_micro_rub, sold.has_stale_rate) == (80_000_000, False)
    assert (unsold.price, unsold.has_stale_rate) == (None, True)

    rate("YRB", 82_000_000)
    assert offer_of(own).price.fx_micro_rub == 82_000_000


def test_price_may_have_a_tier_for_long_requests(load: Load, own: str) -> None:
    tier = 'output = "96", tier = { above_tokens = 200000, input = "48", output = "144" }'
    load(both(own).replace('output = "96"', tier))

    price = offer_of(own).price
    assert (price.output, price.tier.above_tokens, price.tier.cached_input, price.tier.output) == (
        96_000_000,
        200_000,
        48_000_000,
        144_000_000,
    )


def test_free_model_must_say_so(load: Load, own: str) -> None:
    free = both(own).replace('input = "24", output = "96"', 'input = "0", output = "0"')
    with pytest.raises(CatalogueError, match="is_free"):
        load(free)

    load(free.replace('output = "0"', 'output = "0", is_free = true'))
    assert offer_of(own).price.output == 0


def test_refresh_takes_a_new_version_and_keeps_the_old_snapshot_whole(load: Load, own: str) -> None:
    load(both(own))
    old = catalogue.refresh()
    assert catalogue.refresh() is old

    load()
    assert catalogue.current() is old  # nobody looked yet
    new = catalogue.refresh()

    assert new.version > old.version
    assert (old.offers[f"{own}/model"].is_enabled, new.offers[f"{own}/model"].is_enabled) == (True, False)
    assert catalogue.is_loaded()


def test_provider_at_an_unsafe_address_is_shown_and_not_asked(
    load: Load, own: str, settings: Settings
) -> None:
    settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS = False
    settings.PROVIDER_API_KEYS = {f"{own.upper()}_HOST": ("key",)}

    load(both(own).replace("https://api.example.com/v1", "https://0x7f.1/v1"))

    assert offer_of(own).is_configured is False
    assert f"{own}-host" not in catalogue.current().base_urls


@pytest.mark.parametrize("wire", ["anthropic_messages", "gemini_generate", "openai_images"])
def test_wire_without_an_adapter_is_shown_and_not_asked(
    load: Load, own: str, settings: Settings, wire: str
) -> None:
    settings.PROVIDER_API_KEYS = {f"{own.upper()}_HOST": ("key",)}

    load(both(own).replace("openai_chat", wire))

    assert offer_of(own).is_configured is False


WRONG_MODEL = {
    'id = "@/model"': ('id = ""', "model : id"),
    'label = "Model"': ("label = 5", "label"),
    "markup_bp = 13000": ('markup_bp = "13000"', "markup_bp"),
    "upstream_id": ("upstream", "upstream_id"),
    'provider = "@-host"': ('provider = "nobody"', "unknown provider"),
    'currency = "RUB"': ("currency = 5", "price.currency"),
    'input = "24"': ("input = 24", "price.input"),
    'input = "24",': ('input = "2,4",', "price"),
    'output = "96"': ('output = "-1"', "price"),
    ', output = "96"': ("", "price.output"),
    'output = "96" }': ('output = "96", tier = { input = "1", output = "2" } }', "price.tier.above_tokens"),
    '"96" }': ('"96", tier = { above_tokens = 1, input = "1", output = "0" } }', "tier"),
    '{ currency = "RUB", input = "24", output = "96" }': ('"free"', "price"),
}
WRONG_LINES = {
    "context_tokens = 0": "context_tokens",
    'context_tokens = "many"': "context_tokens",
    "context_tokens = 3000000000": "context_tokens",
    "max_output_tokens = 1.5": "max_output_tokens",
    'quality = "high"': "quality",
    "quality = 1.5": "quality",
    "quality = nan": "quality",
    "quality = { general = 2 }": "quality",
    'capabilities = "text"': "capabilities",
    "capabilities = [1]": "capabilities",
    'enabled = "no"': "enabled",
    f'risk = "{"r" * 21}"': "risk",
    'privacy_tier = ["standard"]': "privacy_tier",
}


@pytest.mark.parametrize(("right", "wrong"), WRONG_MODEL.items())
def test_wrong_model_is_told_by_its_place(load: Load, own: str, right: str, wrong: tuple[str, str]) -> None:
    text = both(own)
    right = right.replace("@", own)
    assert right in text

    refused(load, own, text.replace(right, wrong[0], 1), wrong[1])


@pytest.mark.parametrize(("line", "place"), WRONG_LINES.items())
def test_wrong_field_is_told_by_its_place(load: Load, own: str, line: str, place: str) -> None:
    refused(load, own, both(own, model=line + "\n"), rf"model {own}/model: {place}")


@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [
        ('wire = "openai_chat"', 'wire = "smoke"', "wire"),
        ('wire = "openai_chat"\n', "", "wire"),
        ('country = "RU"', 'country = "Russia"', "country"),
        ('country = "RU"\n', "", "country"),
        ('base_url = "https://api.example.com/v1"', "base_url = 1", "base_url"),
        ('base_url = "https://api.example.com/v1"\n', "", "base_url"),
        ('id = "@-host"', "id = 1", "id"),
        ('id = "@-host"', f'id = "{"p" * 61}"', "id"),
        ('id = "@-host"\n', "", "id"),
    ],
)
def test_wrong_provider_is_told_by_its_place(
    load: Load, own: str, right: str, wrong: str, place: str
) -> None:
    text = both(own)

    refused(load, own, text.replace(right.replace("@", own), wrong, 1), rf"provider .*: {place}")


def test_row_that_stands_twice_is_refused(load: Load, own: str) -> None:
    refused(load, own, both(own) + MODEL.format(id=own), f"{own}/model stands there twice")
    refused(load, own, both(own) + PROVIDER.format(id=own), f"{own}-host stands there twice")


def refused(load: Load, own: str, text: str, words: str) -> None:
    """The file is refused by name and place, and nothing of it is kept."""
    rows, number = list(Model.objects.order_by("id").values()), CatalogueVersion.objects.count()

    with pytest.raises(CatalogueError, match=rf"(?s)^wrong\.toml.*{words}"):
        load(text, name="wrong.toml")

    assert list(Model.objects.order_by("id").values()) == rows
    assert CatalogueVersion.objects.count() == number
    assert not Provider.objects.filter(id=f"{own}-host").exists()
    assert versions(own) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no model"),
        (b"[[provider]", "line 1"),
        (b"provider = 5", r"\[\[provider\]\]"),
        (b"[provider]\nid = 'a'", r"\[\[provider\]\]"),
        (b"model = ['a']", r"\[\[model\]\]"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_file_that_is_no_catalogue_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)

    with pytest.raises(CatalogueError, match=rf"^wrong\.toml.*{words}"):
        catalogue.load(path, now=clock.now(), actor=SYSTEM)


def test_command_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.toml: No such file"):
        call_command("load_catalogue", str(tmp_path / "nowhere.toml"))


def test_command_says_what_it_has_loaded(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("load_catalogue")

    assert "is loaded from catalogue.toml" in capsys.readouterr().out


def test_reviewed_catalogues_can_be_loaded(tmp_path: Path) -> None:
    for path in sorted((configured.BASE_DIR / "orchestration" / "catalogues").glob("*.toml")):
        _, providers, models = catalogue_file.read(path)
        assert {model.provider for model in models} <= {provider.id for provider in providers}


def test_loads_at_once_add_one_version_of_a_price(load: Load, own: str, tmp_path: Path) -> None:
    path = tmp_path / "at_once.toml"
    path.write_text(
        configured.PLYRUM_CATALOGUE_PATH.read_text(encoding="utf-8") + both(own), encoding="utf-8"
    )
    load()

    at_once(4, lambda: catalogue.load(path, now=clock.now(), actor=SYSTEM))

    assert versions(own) == [(1, 96_000_000)]


def test_rates_are_added_once(tmp_path: Path) -> None:
    path = tmp_path / "rates.toml"
    path.write_text('[[rate]]\ncurrency = "XTS"\nrub = "1.5"\nsource = "test"\ndate = 2020-01-02\n')

    added = [catalogue.load_rates(path), catalogue.load_rates(path)]

    assert added[1] == 0
    assert FxRate.objects.get(currency="XTS").micro_rub == 1_500_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rate = 5",
        "[[rate]]\n",
        '[[rate]]\ncurrency = "XTS"\nrub = 1.5\nsource = "t"\ndate = 2020-01-02\n',
        '[[rate]]\ncurrency = "XTS"\nrub = "0"\nsource = "t"\ndate = 2020-01-03\n',
        '[[rate]]\ncurrency = "XTS"\nrub = "1"\nsource = "t"\ndate = "soon"\n',
        "[[rate",
    ],
)
def test_wrong_rates_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.toml"
    path.write_text(text)

    with pytest.raises(CatalogueError, match=r"^rates\.toml"):
        catalogue.load_rates(path)
