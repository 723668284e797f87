"""Who acts: a customer, an operator or the system itself. Made at the doors, handed down to the acts."""

from dataclasses import dataclass
from typing import Self
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Actor:
    """`kind` is customer, operator or system; `id` is a person's id or the name of a part of the system."""

    kind: str
    id: str = ""
    ip: str = ""
    request_id: str = ""

    @classmethod
    def customer(cls, user_id: UUID | str, *, ip: str = "", request_id: str = "") -> Self:
        return cls("customer", str(user_id), ip, request_id)

    @classmethod
    def operator(cls, user_id: UUID | str, *, ip: str = "", request_id: str = "") -> Self:
        return cls("operator", str(user_id), ip, request_id)

    @classmethod
    def system(cls, name: str = "") -> Self:
        return cls("system", name)


SYSTEM = Actor.system()
