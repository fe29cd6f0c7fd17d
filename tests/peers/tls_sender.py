"""Sends COUNT messages by TLS in one go and closes at once, without a close_notify and without having read anything.

    tls_sender.py HOST:PORT 1.2|1.3 COUNT CA CERTIFICATE KEY [FIRST]

They are numbered from FIRST on.
"""

import socket
import ssl
import sys

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def main(address, version, count, ca, certificate, key, first=0):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.load_cert_chain(certificate, key)
    host, port = address.rsplit(":", 1)
    stream = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname="localhost")
    stream.sendall(b"".join(b"<14>Nov 20 21:14:26 host app: message %d\n" % number for number in range(int(first), int(first) + int(count))))
    stream.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
