"""Tables that the application role may not write freely, as each app's `models` names them.

PROTECTED_TABLES: rows are added and never changed. FUNCTION_ONLY_TABLES: only the database's functions write.
READ_ONLY_VIEWS: nobody writes.
Read by `migrate`, which takes the rights away, and by the proof of the books, which looks after them.
"""

from collections.abc import Iterator

from django.apps import AppConfig, apps


def protected_tables() -> list[str]:
    return [table for _, table in _named("PROTECTED_TABLES")]


def read_only() -> list[str]:
    """What the role may only read: tables that functions write, and views."""
    return [table for kind in ("FUNCTION_ONLY_TABLES", "READ_ONLY_VIEWS") for _, table in _named(kind)]


def constraints() -> list[str]:
    """Names of the constraints that the models of apps with such tables declare."""
    guarded = dict.fromkeys(config for config, _ in _named("PROTECTED_TABLES"))
    return sorted(
        constraint.name
        for config in guarded
        for model in config.get_models()
        for constraint in model._meta.constraints
    )


def _named(name: str) -> Iterator[tuple[AppConfig, str]]:
    for config in apps.get_app_configs():
        for table in getattr(config.models_module, name, ()) if "." not in config.name else ():
            yield config, table
