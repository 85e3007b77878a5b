"""Runs a command on a terminal of its own and talks to it.

terminal.py COMMAND [ARG...], with one step per line on standard input:
  expect TEXT    wait until TEXT is in the output after the last match (10 s at most)
  send TEXT      type TEXT and Return
  key HEX        type the byte
  resize ROWS COLUMNS
  hangup         take the terminal away
Then waits for the end and exits with the command's code (128+N for a signal). What the command printed goes to
standard output. Exit code 99: a text never came, or the command did not end in time and was killed.
"""
import sys
# This file has the name of a module that it needs, and python looks beside it first.
sys.path.pop(0)
import fcntl, os, pty, select, signal, struct, termios, time

def winsize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

steps = [line.rstrip("\n") for line in sys.stdin]
pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
winsize(master, 24, 80)
seen, matched = b"", 0

def read(timeout):
    global seen
    if not select.select([master], [], [], timeout)[0]:
        return True
    try:
        data = os.read(master, 65536)
    except OSError:
        return False
    seen += data
    return bool(data)

failed = False
for step in steps:
    verb, _, rest = step.partition(" ")
    if verb == "expect":
        deadline, alive = time.monotonic() + 10, True
        while rest.encode() not in seen[matched:] and alive and time.monotonic() < deadline:
            alive = read(0.2)
        at = seen.find(rest.encode(), matched)
        if at < 0:
            print(f"terminal.py: {rest!r} never came", file=sys.stderr)
            failed = True
            break
        matched = at + len(rest.encode())
    elif verb == "send":
        os.write(master, rest.encode() + b"\r")
    elif verb == "key":
        # What was typed before must have been read, or the byte comes while the shell still edits its line.
        time.sleep(0.5)
        os.write(master, bytes.fromhex(rest))
    elif verb == "hangup":
        os.close(master)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 127)
    elif verb == "resize":
        winsize(master, *map(int, rest.split()))
    else:
        sys.exit(f"terminal.py: unknown step {step!r}")
deadline = time.monotonic() + 10
if failed:
    os.close(master)
else:
    while read(0.2) and time.monotonic() < deadline:
        pass
while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
    if time.monotonic() > deadline:
        print("terminal.py: killed what would not end", file=sys.stderr)
        failed = True
        os.kill(pid, signal.SIGKILL)
        deadline += 10
    time.sleep(0.01)
status = ended[1]
sys.stdout.buffer.write(seen)
sys.stdout.flush()
code = os.waitstatus_to_exitcode(status)
sys.exit(99 if failed else code if code >= 0 else 128 - code)
