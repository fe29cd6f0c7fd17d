"""listen.py FOLDER WHERE...: listens on 127.0.0.1 for each udp:PORT, tcp:PORT, tls:PORT or relp:PORT and writes what comes to
FOLDER/sent-KIND-PORT: a datagram a line, a stream's octets as they come, RELP's messages a line each."""
import re
import socket
import ssl
import sys
import threading

def udp(s, out):
    while True:
        out.write(s.recv(65536) + b'\n')

def tcp(c, out):
    while True:
        d = c.recv(65536)
        if not d:
            return
        out.write(d)

def relp(c, out):
    buf = b''
    while True:
        m = re.match(rb'(\d+) (\w+) (\d+)[ \n]', buf)
        if m and len(buf) >= m.end() + int(m[3]) + (1 if int(m[3]) else 0):
            n = int(m[3])
            data = buf[m.end():m.end() + n]
            buf = buf[m.end() + n + (1 if n else 0):]
            if m[2] == b'open':
                rsp = b'200 OK\nrelp_version=0\nrelp_software=listen.py\ncommands=syslog'
            else:
                rsp = b'200 OK'
                if m[2] == b'syslog':
                    out.write(data + b'\n')
            c.sendall(b'%s rsp %d %s\n' % (m[1], len(rsp), rsp))
            if m[2] == b'close':
                c.sendall(b'0 serverclose 0\n')
            continue
        d = c.recv(65536)
        if not d:
            return
        buf += d

def accept(s, kind, out):
    while True:
        c, _ = s.accept()
        if kind == 'tls':
            x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            x.load_cert_chain('/etc/pki/rsyslog/server-cert.pem', '/etc/pki/rsyslog/server-key.pem')
            try:
                c = x.wrap_socket(c, server_side=True)
            except OSError as e:
                print('listen.py:', e, file=sys.stderr)
                continue
        threading.Thread(target=guard, args=(relp if kind == 'relp' else tcp, c, out), daemon=True).start()

def guard(f, c, out):
    try:
        f(c, out)
    except OSError:
        pass

ths = []
for where in sys.argv[2:]:
    kind, port = where.split(':')
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', int(port)))
    out = open('%s/sent-%s-%s' % (sys.argv[1], kind, port), 'ab', buffering=0)
    if kind == 'udp':
        t = threading.Thread(target=udp, args=(s, out), daemon=True)
    else:
        s.listen(10)
        t = threading.Thread(target=accept, args=(s, kind, out), daemon=True)
    t.start()
    ths.append(t)
open(sys.argv[1] + '/listening', 'w').close()
for t in ths:
    t.join()
