"""One end of a transfer: rate.py send|receive listen|connect tcp|udp ADDRESS SECONDS [AFTER]

The receiver prints how many bits of payload it got in a second: over SECONDS, after a pause in which
the transfer finds its speed, and then goes on receiving for AFTER seconds, so that another window
of time, which began later, sees no change; or, if SECONDS is 0, for each half second, without end. Who sends goes on
until the receiver has gone."""

import socket
import sys
import time

PORT = 5001
PAUSE = 3

does, how, protocol, address, seconds, *after = sys.argv[1:]
seconds, after = float(seconds), sum(map(float, after))
udp = protocol == "udp"
family = socket.AF_INET6 if ":" in address else socket.AF_INET
end = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
buffer = bytearray(1 << 20)


def receive(duration):
    """Bits in a second, over so many seconds."""
    begin = now = time.monotonic()
    got = 0
    while now < begin + duration:
        count = end.recv_into(buffer)
        if not count and not udp:
            sys.exit("the sender has gone")
        got += count
        now = time.monotonic()
    return int(8 * got / (now - begin))


if how == "listen":
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind((address, PORT))
    if not udp:
        end.listen(1)
    print("ready")
    if not udp:
        end, _ = end.accept()
    elif does == "send":
        end.connect(end.recvfrom(1)[1])
else:
    end.connect((address, PORT))
    if udp and does == "receive":
        end.send(b"x")

if does == "send":
    chunk = bytes(1448 if udp else 65536)
    try:
        # UDP hears of a receiver that has gone, if at all, by an error.
        last = time.monotonic() + (PAUSE + seconds + after + 1 if seconds else 1000)
        while time.monotonic() < last:
            end.send(chunk)
    except OSError:
        pass
elif seconds:
    # What is not in order yet is not delivered: what the start has lost is made up for first.
    end.recv_into(buffer)
    receive(PAUSE)
    print(receive(seconds))
    if after:
        receive(after)
else:
    while True:
        print(receive(0.5))
