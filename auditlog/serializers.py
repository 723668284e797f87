"""Input of the operator's audit API. Unknown parameters are refused: a typo must not widen an export."""

from typing import Any

from rest_framework import serializers

from auditlog.models import AuditEvent
from auditlog.queries import AuditFilter

MAX_LIMIT = 1_000


class AuditQuery(serializers.Serializer[AuditFilter]):
    kind = serializers.RegexField(r"^[a-z_.]{1,100}$", required=False)
    status = serializers.ChoiceField(AuditEvent.Status.choices, required=False)
    actor_user_id = serializers.UUIDField(required=False)
    target_user_id = serializers.UUIDField(required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    cursor = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=MAX_LIMIT, default=100)
    format = serializers.ChoiceField(["json", "ndjson"], required=False)

    # In the address they are called `from` and `to`; `from` is a word of the language.
    NAMES = {"from": "since", "to": "until"}

    def to_internal_value(self, data: Any) -> Any:
        given = {
            self.NAMES.get(name, name): value
            for name, value in data.items()
            if name not in ("since", "until")
        }
        unknown = set(data) - (set(self.fields) - set(self.NAMES.values()) | set(self.NAMES))
        if unknown:
            raise serializers.ValidationError({name: ["Unknown parameter."] for name in sorted(unknown)})
        return super().to_internal_value(given)

    def wanted(self) -> AuditFilter:
        facts = dict(self.validated_data)
        facts.pop("limit")
        facts.pop("format", None)
        return AuditFilter(before_seq=facts.pop("cursor", None), **facts)
