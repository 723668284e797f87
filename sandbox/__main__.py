"""The door of the shell: `python -m sandbox [--port P] [--smtp-port P] [--webhook-url URL] [--data FILE]`."""

import sys

from sandbox import server

sys.exit(server.main())
