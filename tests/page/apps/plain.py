# SNIPPET
import logging
from probe import probe

probe(logging.getLogger("shop.orders"))
