"""A million usage rows as a file: peak memory against a tenth of them, each in a process of its own.

python -m bench.exporting CUSTOMER     (one export; called by the benchmark)
"""

import json
import os
import resource
import subprocess
import sys
import time
from uuid import UUID

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.settings"

import django

django.setup()

from django.db import connection

from auditlog.actors import SYSTEM
from bench import pgbench
from bench.machine import ROOT, python
from billing import exports
from plyrum import downloads
from plyrum.downloads import Form
from plyrum.ids import uuid7

ROWS = (100_000, 1_000_000)
# Usage of nothing at a price that exists: rows as long as real ones, and books that stay right.
FILL = """
INSERT INTO billing_usageevent (id, customer_id, run_id, model, provider, kind, input_tokens, output_tokens,
            cached_input_tokens, cache_write_tokens, reasoning_tokens, images, cost_micro_rub,
            charged_micro_rub, price_version_id, fx_rate_id, estimated, created_at)
SELECT gen_random_uuid(), %(customer)s, gen_random_uuid(), 'bench/20', 'sandbox', 'chat', 0, 0, 0, 0, 0, 0, 0,
       0, p.id, f.id, false, now() - n * interval '1 second'
  FROM generate_series(1, %(rows)s) n,
       (SELECT id, currency FROM billing_priceversion WHERE is_free = false ORDER BY id LIMIT 1) p
  LEFT JOIN LATERAL (SELECT r.id FROM billing_fxrate r
                      WHERE r.currency = p.currency ORDER BY r.id LIMIT 1) f ON true
"""


def run() -> None:
    """Print peak memory and rows a second of both files and what the larger one costs in memory."""
    measured = []
    for rows in ROWS:
        customer = uuid7()
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(FILL, {"customer": customer, "rows": rows})
        pgbench.settle_down()
        done = subprocess.run(
            python("-m", "bench.exporting", str(customer)), cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        measured.append(json.loads(done.stdout.splitlines()[-1]))
    print("\nExport of usage as CSV, a process each")
    for rows, found in zip(ROWS, measured, strict=True):
        if found["lines"] != rows + 1:
            raise RuntimeError(f"Of {rows} rows {found['lines'] - 1} were exported.")
        print(f"  {rows:>9} rows {rows / found['seconds']:8.0f}/s  peak {found['peak_mib']:.0f} MiB")
    print(f"  memory x{measured[1]['peak_mib'] / measured[0]['peak_mib']:.2f} for ten times the rows")


def _export(customer_id: UUID) -> dict[str, float]:
    began = time.perf_counter()
    found = exports.usage(customer_id=customer_id, form=Form.CSV, actor=SYSTEM)
    lines = sum(part.count(b"\n") for part in downloads.parts(found, Form.CSV))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"lines": lines, "seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    print(json.dumps(_export(UUID(sys.argv[1]))))
