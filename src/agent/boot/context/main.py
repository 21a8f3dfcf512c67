# The main script of a context: runs cells, one after the other, in the namespace of __main__.
#
# Cells may do anything to what is in here, as to all of their sandbox. Only what they do without meaning
# harm (another `print`, a closed stdout, forks, exits) is expected.


def _serve():
    import os
    import sys

    own = os.path.dirname(__file__)
    boot = os.path.join(os.path.dirname(own), "boot")
    sys.path[:] = [boot, *(path for path in sys.path if path != own)]
    sys.argv[:] = [""]
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    from sandpool_context import cells, messages, signals, streams

    sys.dont_write_bytecode = writes_none
    sys.path.remove(boot)
    sys.path_importer_cache.pop(boot, None)

    streams.begin(messages.begin())
    cells.run(0, "0;")  # the first run of anything takes longer
    messages.send(messages.field(1, b""))
    while True:
        number, source, descriptors = messages.receive()
        if descriptors:
            streams.take_input(descriptors)
        try:
            message = cells.run(number, source)
        except BaseException as late:  # By a handler, just where the next attempt begins.
            signals.mode = signals.BUSY
            message = cells.failed_untold(late)
        streams.renew()
        signals.end_cell(messages.send(message, is_answered=True))


try:
    _serve()
except OSError:
    # A cell has closed the socket. The agent kills the context once it sees that, and which of the two comes first must
    # not decide how the context has ended.
    import os

    os.kill(os.getpid(), 9)
