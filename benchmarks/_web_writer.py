"""A service that writes so many numbered lines a second for so long, once a file is there: `python -S _web_writer.py RATE SECONDS FILE`."""

import os
import sys
import time

STEP_SECONDS = 0.01

rate, seconds = float(sys.argv[1]), float(sys.argv[2])
while not os.path.exists(sys.argv[3]):
    time.sleep(STEP_SECONDS)
began, written = time.monotonic(), 0
while (passed := time.monotonic() - began) < seconds:
    due = int(passed * rate)
    text = "".join(
        f"{number:09d} a line of the usual length, as a compiler writes it\n" for number in range(written, due)
    )
    written = due
    sys.stdout.write(text)
    sys.stdout.flush()
    time.sleep(STEP_SECONDS)
print(f"END {written} {time.monotonic() - began:.3f}", flush=True)
time.sleep(3600)
