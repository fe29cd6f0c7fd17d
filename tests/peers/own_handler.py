"""Logs numbered records through this project's own handler, one for each line on standard input, and says at the end what was
dropped and whether all was delivered.

    own_handler.py URL [OPTION=VALUE...]
"""

import json
import logging
import sys

import penstock

options = dict(argument.split("=", 1) for argument in sys.argv[2:])
handler = penstock.Handler(sys.argv[1], app_name="own", batch_seconds=0.05, retry_first=0.05, retry_most=0.2, **options)
logger = logging.getLogger("shop.orders")
logger.setLevel(1)
logger.addHandler(handler)
for line in sys.stdin:
    number = int(line)
    if number % 100 == 0:
        try:
            raise ValueError("caf\u00e9")
        except ValueError:
            logger.exception("[%d] failed", number, extra={"number": number})
    else:
        logger.warning("[%d] gr\u00fc\u00dfe\nund mehr", number, extra={"number": number, "user": {"id": number}})
delivered = handler.flush(60)
print(json.dumps({"dropped": handler.dropped, "delivered": delivered}))
