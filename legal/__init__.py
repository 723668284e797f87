"""Legal texts with versions and hashes, and the proof of who accepted them."""
