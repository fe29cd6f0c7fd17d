"""A logging handler for penstock and any other server of syslog by TLS, RELP or HTTPS."""

from .handler import Handler

__all__ = ["Handler"]
__version__ = "0.1.0"
