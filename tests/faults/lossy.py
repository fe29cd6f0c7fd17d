"""A cable that loses and delays packets: two TUN devices and what lies between them.

    lossy.py ONE OTHER LOSS DELAY

makes the devices ONE and OTHER. Of the packets that go into one of them, LOSS per cent are lost, and the others come out of the
other one after DELAY to twice DELAY milliseconds, and so not always in order. Says `ready`; on `cut` everything is
lost, on `mend` it is as before; ends with its standard input.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000


def device(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def deliver(out, packet):
    try:
        os.write(out, packet)
    except OSError:
        pass  # The device is down: a packet like any other that is lost.


def main(one, other, loss, delay):
    loss, delay = float(loss) / 100, float(delay) / 1000
    ends = device(one), device(other)
    across = {ends[0]: ends[1], ends[1]: ends[0]}
    print("ready", flush=True)
    cut, count, waiting = False, 0, []
    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([sys.stdin, *ends], [], [], pause)
        for end in readable:
            if end is sys.stdin:
                order = sys.stdin.readline()
                if not order:
                    return
                cut = order == "cut\n"
                continue
            try:
                packet = os.read(end, 65536)
            except OSError:
                continue
            if not cut and random.random() >= loss:
                count += 1
                due = time.monotonic() + random.uniform(delay, 2 * delay)
                heapq.heappush(waiting, (due, count, across[end], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, packet = heapq.heappop(waiting)
            deliver(out, packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
