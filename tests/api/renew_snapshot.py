"""The reviewed document of the customer API; renewed by `python -m tests.api.renew_snapshot`."""

import json
import os
from pathlib import Path
from typing import Any

import django
from django.utils.module_loading import import_string

SNAPSHOT = Path(__file__).resolve().parent.parent / "snapshots" / "openapi.json"


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    document = import_string("tests.api.routes.document")  # settings must be there before the API is
    SNAPSHOT.write_text(text_of(document()), encoding="utf-8")


if __name__ == "__main__":
    main()
