# Runs inside python3 before its main script does: `site` imports this by its name. It imports the
# pool's modules, warms up, waits for the start, and returns; python3 then runs the main script by
# itself, so tracebacks, SystemExit, atexit and multiprocessing are python3's own.
#
# Descriptor 3, a socket, carries:  in: modules to import, separated by blanks, one line
#                                   out: one byte once this interpreter waits
#                                   in: the start: 4 bytes of length, then texts that end with NUL:
#                                       working directory, who reads the output ("server", "agent", or
#                                       "context": see context/messages.py, which goes on with the socket),
#                                       number of arguments, arguments, NAME=value...


def _boot():
    import os
    import sys
    import time

    def read(n):
        parts = []
        while n:
            part = os.read(3, n)
            if not part:
                os._exit(0)  # the agent has gone
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    # Not by os.path: what a plain start has not imported yet stays so.
    here = __file__.rpartition("/")[0]
    sys.path[:] = [p for p in sys.path if p != here]
    sys.path_importer_cache.pop(here, None)
    first, *given = os.environ.get("PYTHONPATH", "").split(":")
    if first == here:
        del os.environ["PYTHONPATH"]
        if given:
            os.environ["PYTHONPATH"] = ":".join(given)
    del sys.modules["sitecustomize"]
    try:
        __import__("sitecustomize")
    except ImportError:
        import types

        sys.modules["sitecustomize"] = types.ModuleType("sitecustomize")
    if first != here:
        return  # a subinterpreter of the program: its path is that of the process's start

    # `site` would search for this after the start; there is nothing new to find by then.
    import site

    if site.ENABLE_USER_SITE:
        site.execusercustomize()
        search = site.execusercustomize

        def searched():
            site.execusercustomize = search

        site.execusercustomize = searched

    line = b""
    while not line.endswith(b"\n"):
        line += read(1)
    for name in line.decode().split():
        try:
            __import__(name)
        except ImportError as e:
            os.write(2, f"sandpool: cannot preload {name}: {e}\n".encode())
            os._exit(1)

    # The first run of anything costs milliseconds: page faults, lazy caches. So compile and run
    # a small program here, and let it print through streams of the same kind.
    out = open("/dev/null", "w", buffering=1)
    saved, sys.stdout = sys.stdout, out
    try:
        for _ in range(3):
            code = compile("print(6*7)\nprint('a', 1.5, [1], {2: 3})\n", sys.argv[0], "exec")
            exec(code, {"__name__": "warm-up"})
    finally:
        sys.stdout = saved
        out.close()
    int(b"0")  # the first one asks libm for a logarithm
    # Otherwise python3 asks each import hook whether the script is a directory or an archive.
    sys.path_importer_cache[sys.argv[0]] = None
    time.tzset()
    # As on a terminal: a line is sent when it is complete, so that output streams.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)

    waiting_in = os.getcwdb()
    os.write(3, b"r")
    # From here on each system call is time that the program waits for.
    # No larger, lest the heap grow and shrink for it: gVisor takes its time to map and unmap.
    record = os.read(3, 4096)
    record += read(max(0, 4 - len(record)))
    record += read(4 + int.from_bytes(record[:4], "big") - len(record))
    fields = record[4:].split(b"\0")
    if fields[1] != b"context":
        os.close(3)
    count = int(fields[2])
    for field in fields[3 + count : -1]:
        name, _, value = field.partition(b"=")
        os.environb[name] = value
        if name == b"TZ":
            time.tzset()
    if fields[0] != waiting_in:
        os.chdir(fields[0])
    sys.argv[1:] = map(os.fsdecode, fields[3 : 3 + count])
    if hasattr(sys, "orig_argv"):  # since 3.10
        sys.orig_argv[2:] = sys.argv[1:]
    if fields[1] == b"agent":
        # While a process computes, gVisor may let the agent wait for a processor; one that sleeps
        # lets it go on at once. So the last output is on its way before python3 clears up, which
        # takes it milliseconds.
        imported = "atexit" in sys.modules
        import atexit

        atexit.register(time.sleep, 0.0005)
        if not imported:
            del sys.modules["atexit"]
    # python3 puts the script's own directory before this.
    sys.path.insert(0, os.fsdecode(fields[0]))


_boot()
