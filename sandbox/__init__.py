"""Plays the outside world of Plyrum on this machine: YooKassa, model providers, a mailbox.

Started as one process by `python -m sandbox`; the product talks to it over HTTP and SMTP only and does not
know that it is not the real thing. It never imports Django or the product, listens on 127.0.0.1 alone and
refuses to start in production.
"""
