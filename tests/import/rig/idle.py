"""idle.py PID [LOOKS]: returns when a process has been waiting for so many looks of 20 ms: it has taken everything that was there for it."""
import sys
import time

calm = 0
wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 5
while calm < wanted:
    try:
        state = open(f"/proc/{sys.argv[1]}/stat").read().rsplit(")", 1)[1].split()
    except OSError:
        break
    used = state[11:13]
    calm = calm + 1 if state[0] == "S" and calm and used == last else 1 if state[0] == "S" else 0
    last = used
    time.sleep(0.02)
