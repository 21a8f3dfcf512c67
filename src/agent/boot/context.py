# The main script of a context: runs cells, one after the other, in the namespace of __main__.
#
# Descriptor 3, a socket, carries
#   out:  one byte, when what was said before (sitecustomize.py) has been read
#   in:   one byte, and with it two descriptors: stdout and stderr of all cells
#   in:   a cell: its number (8 bytes), its length (4 bytes) and its source, and with the first byte, if it has
#         input, one descriptor: its stdin
#   out:  messages FromContext (agent.proto), each after its length (4 bytes)
#   in:   one byte for each display that waits for it, and for the end of each cell
#
# Cells may do anything to what is in here, as to all of their sandbox. Only what they do without meaning
# harm (another `print`, a closed stdout, forks, exits) is expected.


def _serve():
    import _socket
    import array
    import ast
    import builtins
    import functools
    import importlib.machinery
    import io
    import linecache
    import os
    import signal
    import sys
    import threading
    import time
    import traceback
    import types
    import weakref

    import __future__

    here = __file__
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(here)]
    sys.argv[:] = [""]
    # A module of its own: a cell that defines `len` must not change what is in here.
    scripts_own = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = sys.modules["__main__"].__dict__

    control = _socket.socket(fileno=3)
    own_pid = os.getpid()
    os.set_inheritable(3, False)
    no_input = os.open(os.devnull, os.O_RDONLY)
    sending = threading.Lock()

    # Signals
    #
    # A handler of a cell's may raise, and would leave half a message or the next cell without its beginning. So for what
    # cells set by signal.signal Python calls one function, and that calls the cell's own where it does no harm. (To block
    # signals is not enough: a thread takes them then, and the handler runs in the main thread all the same.)

    busy = "busy"  # no handler is called: signals wait
    idle = "idle"  # between two cells: what a handler raises goes nowhere
    in_cell = "in_cell"  # what a handler raises is the cell's
    # Where the main thread is.
    mode = busy
    handlers = {}  # What cells have set, by the signal's number.
    waiting = []  # The numbers of signals that have come where it was busy.
    is_calling = False
    # When the cell was interrupted, by time.monotonic(). A second interrupt that soon would come where the first is
    # dealt with.
    interrupted_at = 0.0
    pause = 0.05

    def on_signal(number, frame):
        if mode is busy or (mode is idle and number == signal.SIGINT and has_come()):
            if number not in waiting:
                waiting.append(number)
        elif mode is idle:
            try:
                handlers[number](number, frame)
            except BaseException:
                pass
        else:
            handlers[number](number, frame)

    def call_waiting():
        """Calls the handlers of what has come where it was busy."""
        nonlocal is_calling
        if is_calling:
            return  # One of them displays something: the others have their turn after it.
        is_calling = True
        try:
            call(10)
        finally:
            is_calling = False

    def call(most):
        """So many, since there may be no end of them; and each, though one before it raises."""
        if waiting and most:
            try:
                on_signal(waiting.pop(0), sys._getframe())
            finally:
                call(most - 1)

    def interrupt(*_):
        """SIGINT's handler, unless a cell has set another one."""
        nonlocal interrupted_at
        now = time.monotonic()
        if now - interrupted_at > pause:
            interrupted_at = now
            raise KeyboardInterrupt

    set_handler, get_handler = signal.signal, signal.getsignal

    def is_main_thread():
        return threading.current_thread() is threading.main_thread()

    def cells_own(number, handler):
        return handlers.get(int(number)) if handler is on_signal else handler

    @functools.wraps(set_handler)
    def set_cells_own(signalnum, handler):
        if not callable(handler) or not is_main_thread():  # where it is refused
            return cells_own(signalnum, set_handler(signalnum, handler))
        number = int(signalnum)
        before = get_cells_own(number)
        own = handlers.get(number)
        # Who has what is here from before may give it back.
        handlers[number] = own if handler is on_signal else handler
        try:
            set_handler(number, on_signal)
        except BaseException:
            handlers[number] = own
            raise
        return before

    @functools.wraps(get_handler)
    def get_cells_own(signalnum):
        return cells_own(signalnum, get_handler(signalnum))

    signal.signal, signal.getsignal = set_cells_own, get_cells_own
    signal.signal(signal.SIGINT, interrupt)

    def in_child():
        """A child has the signals of a cell, whichever thread has made it, and its streams alone."""
        nonlocal mode
        mode = in_cell
        control.close()

    os.register_at_fork(after_in_child=in_child)

    # Messages

    most = 3 << 20  # Bytes of a display's forms together.

    def varint(number):
        encoded = bytearray()
        while number > 127:
            encoded.append(number & 127 | 128)
            number >>= 7
        encoded.append(number)
        return bytes(encoded)

    def field(number, data):
        """A field of protobuf, as bytes: a text, a message, or a number."""
        if isinstance(data, int):
            return varint(number << 3) + varint(data)
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")
        return varint(number << 3 | 2) + varint(len(data)) + data

    def send(message, is_answered=False):
        nonlocal mode
        is_main = is_main_thread()
        with sending:
            before = mode
            try:
                if is_main:
                    mode = busy
                control.sendall(len(message).to_bytes(4, "big") + message)
                if is_answered and not control.recv(1):
                    os._exit(0)  # the agent has gone
            finally:
                if is_main:
                    mode = before
        if is_main and mode is not busy:
            call_waiting()

    # What the agent sends. Its first byte is part of a cell's number, and never this.
    received = bytearray(65536)
    nothing = 255

    def has_come():
        """Whether anything has, since a cell was waited for."""
        if received[0] != nothing:
            return True
        try:
            return bool(control.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT))
        except OSError:
            return False

    def receive_with_descriptors(length):
        """At least one byte, at most so many, and the descriptors that came with it."""
        received[0] = nothing
        buffers = [memoryview(received)[:length]]
        length, ancillary, _, _ = control.recvmsg_into(buffers, _socket.CMSG_SPACE(2 * 4))
        if not length:
            os._exit(0)  # the agent has gone
        descriptors = array.array("i")
        for _, _, sent in ancillary:
            descriptors.frombytes(sent)
        return bytes(received[:length]), list(descriptors)

    def receive():
        """The next cell. While it is waited for, signals do what the last one has said."""
        nonlocal mode
        received[0] = nothing
        mode = idle
        call_waiting()
        data, descriptors = receive_with_descriptors(len(received))
        mode = busy
        while len(data) < 12 or len(data) < 12 + int.from_bytes(data[8:12], "big"):
            more = control.recv(1 << 20)
            if not more:
                os._exit(0)
            data += more
        return int.from_bytes(data[:8], "big"), data[12:].decode(), descriptors

    # The streams of a cell

    lost = []  # Streams with output that nobody took: collected, they would write it to the next cell.

    def text_stream(descriptor, mode, like):
        raw = io.FileIO(descriptor, mode, closefd=False)
        buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
        try:
            encoding, errors = like.encoding or "utf-8", like.errors or "strict"
        except Exception:
            encoding, errors = "utf-8", "strict"  # It is no such stream, or has given its descriptor away.
        return io.TextIOWrapper(buffered, encoding, errors, line_buffering=mode == "w")

    def flush(name, descriptor):
        stream = getattr(sys, name, None)
        try:
            if hasattr(stream, "write") and not hasattr(stream, "flush"):
                return  # It keeps nothing.
            stream.flush()
        except BaseException as error:
            lost.append(stream)
            take_outputs()
            setattr(sys, name, text_stream(descriptor, "w", stream))
            if isinstance(error, KeyboardInterrupt):
                raise

    def flush_both():
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            flush(name, descriptor)
            if getattr(sys, f"__{name}__", None) is not getattr(sys, name, None):
                # A cell has put something else in its place.
                flush(f"__{name}__", descriptor)
        ctypes = sys.modules.get("ctypes")
        if ctypes:
            # What libraries print by printf(3).
            attempt(lambda: ctypes.CDLL(None).fflush(None))

    outputs = []

    def take_outputs():
        """Cells write where the agent reads, whatever the one before has closed or put in its place."""
        for descriptor, output in enumerate(outputs, 1):
            os.dup2(output, descriptor)

    def take_input(descriptors):
        os.dup2(descriptors[0] if descriptors else no_input, 0)
        for descriptor in descriptors:
            os.close(descriptor)

    stdin = sys.stdin

    def renew_stdin():
        """What a cell has not read of its input is not the next one's."""
        nonlocal stdin
        try:
            is_cells_own = sys.stdin is not stdin and not sys.stdin.closed
        except Exception:
            is_cells_own = False  # It is no stream, or has given its descriptor away.
        if not is_cells_own:
            stdin = sys.stdin = text_stream(0, "r", stdin)

    # Displays

    methods = {
        "text/html": "_repr_html_",
        "text/markdown": "_repr_markdown_",
        "text/latex": "_repr_latex_",
        "image/svg+xml": "_repr_svg_",
        "image/png": "_repr_png_",
        "image/jpeg": "_repr_jpeg_",
        "application/json": "_repr_json_",
        "application/javascript": "_repr_javascript_",
        "application/pdf": "_repr_pdf_",
    }
    binary = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")

    def complain(text):
        try:
            sys.stderr.write(text)
        except Exception:
            pass  # There is nobody else to tell.

    def attempt(call, *args, **kwargs):
        """What it returns; nothing, and a traceback on stderr, if it fails."""
        try:
            return call(*args, **kwargs)
        except NotImplementedError:
            return None
        except Exception as error:
            complain(described(error)[2])
            return None

    def bundle_of(method, value):
        made = method(value, include=None, exclude=None)
        data, metadata = made if isinstance(made, tuple) else (made, None)
        return dict(data or {}), dict(metadata or {})

    def bundle(value):
        """The forms of a value by MIME type, and their metadata."""
        kind = type(value)
        data, metadata = {}, {}
        if not isinstance(value, type):
            method = getattr(kind, "_repr_mimebundle_", None)
            if callable(method):
                data, metadata = attempt(bundle_of, method, value) or ({}, {})
            for mime_type, name in methods.items():
                method = getattr(kind, name, None)
                if mime_type in data or not callable(method):
                    continue
                made = attempt(method, value)
                if isinstance(made, tuple):
                    made, metadata[mime_type] = made
                data[mime_type] = made
        figure = sys.modules.get("matplotlib.figure")
        if figure and isinstance(value, figure.Figure):
            shown_figures.add(value)
            data["image/png"] = attempt(png, value)
        if "text/plain" not in data:
            data["text/plain"] = attempt(repr, value)
        return data, metadata

    def encoded(mime_type, form):
        """A form as bytes; or how long it would be at least, if that is too long."""
        if mime_type.endswith("json") and not isinstance(form, (str, bytes)):
            import json

            form = json.dumps(form)
        if not isinstance(form, (bytes, bytearray, memoryview)):
            form = str(form)
            if len(form) > 2 * most:
                return len(form)
            if mime_type in binary:
                import base64

                form = base64.b64decode(form)
            else:
                form = form.encode("utf-8", "replace")
        return bytes(form) if len(form) <= most else len(form)

    def publish(data, metadata=None, is_result=False):
        forms = {}
        for mime_type, form in data.items():
            mime_type = str(mime_type)
            if form is None:
                continue
            if len(forms) == 64 or not 0 < len(mime_type.encode("utf-8", "replace")) < 256:
                complain("a value has too many forms to be displayed, or one without a MIME type\n")
                return
            form = attempt(encoded, mime_type, form)
            if form is not None:
                forms[mime_type] = form
        if not forms:
            return
        if os.getpid() != own_pid:
            # A child has only its streams.
            text = forms.get("text/plain", b"")
            text = f"[{text} bytes]" if isinstance(text, int) else text.decode("utf-8", "replace")
            sys.stdout.write(text + "\n")
            return
        flush_both()
        message, left = bytearray(), most
        sized = sorted((f if isinstance(f, int) else len(f), m, f) for m, f in forms.items())
        for size, mime_type, form in sized:
            if size <= left:
                left -= size
                message += field(1, field(1, mime_type) + field(2, form))
            else:
                message += field(4, field(1, mime_type) + field(2, size))
        if metadata:
            import json

            metadata = attempt(json.dumps, metadata)
            if metadata is not None and len(metadata) < 65536:
                message += field(2, metadata)
        if is_result:
            message += field(3, 1)
        # What follows is written when the agent knows what came before. It is the main thread that reads from the
        # socket, and only a cell's is not about to.
        is_answered = mode is in_cell and is_main_thread()
        if is_answered:
            message += field(7, 1)
        send(field(2, bytes(message)), is_answered)

    def show(value, metadata=None, is_result=False):
        shows_itself = getattr(type(value), "_ipython_display_", None)
        if callable(shows_itself) and not isinstance(value, type):
            attempt(shows_itself, value)
        else:
            data, own = bundle(value)
            publish(data, {**own, **(metadata or {})}, is_result)

    class Handle:
        """What display(..., display_id=...) returns. Nothing that was shown changes: an update is shown below."""

        def display(self, value, **options):
            display(value, **options)

        update = display

    def display(*values, raw=False, metadata=None, display_id=None, **_):
        """Shows values in all their forms. As IPython.display.display; its other options mean nothing here."""
        for value in values:
            if raw:
                publish(value, metadata)
            else:
                show(value, metadata)
        return Handle() if display_id is not None else None

    def publish_display_data(data, metadata=None, **_):
        publish(data, metadata)

    builtins.display = display

    # Figures, other people's displays, and the loop of asyncio

    shown_figures = weakref.WeakSet()

    def png(figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()

    def show_figures(*_, **__):
        """Displays all open figures but those that were displayed in this cell, and closes them."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or not hasattr(pyplot, "get_fignums"):
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if figure not in shown_figures and (figure.axes or figure.lines):
                display(figure)
        pyplot.close("all")

    def draw_without_a_screen(matplotlib):
        if "MPLBACKEND" not in os.environ:
            matplotlib.rcParams["backend"] = "agg"

    def show_here(pyplot):
        pyplot.show = show_figures

    loop = None

    def use_loop():
        """Cells have one loop, where they have any: asyncio.run leaves none behind."""
        nonlocal loop
        asyncio = sys.modules.get("asyncio")
        if asyncio is None or not hasattr(asyncio, "set_event_loop"):
            return
        if loop is None or loop.is_closed():
            loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)

    def display_here(module):
        ours = {
            "display": display,
            "update_display": display,
            "publish_display_data": publish_display_data,
        }
        for name, function in ours.items():
            if name in vars(module):
                setattr(module, name, function)

    imported = {
        "asyncio": lambda _: use_loop(),
        "matplotlib": draw_without_a_screen,
        "matplotlib.pyplot": show_here,
        "IPython.core.display_functions": display_here,
        "IPython.core.display": display_here,
        "IPython.display": display_here,
    }

    class Finder:
        """Changes those modules once they have been imported."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            change = imported.get(name)
            spec = change and importlib.machinery.PathFinder.find_spec(name, path, target)
            if not spec or not spec.loader:
                return None
            execute = spec.loader.exec_module

            def executed(module):
                execute(module)
                change(module)

            spec.loader.exec_module = executed
            return spec

    sys.meta_path.insert(0, Finder)
    for name, change in imported.items():
        if name in sys.modules:
            change(sys.modules[name])

    # Cells

    futures = 0
    for name in __future__.all_feature_names:
        futures |= getattr(__future__, name).compiler_flag
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def shortened(text, limit):
        half = limit // 2
        return text if len(text) <= limit else f"{text[:half]}\n[...]\n{text[-half:]}"

    def name_of(error):
        """Its type's own name, whatever a metaclass says."""
        return type.__dict__["__name__"].__get__(type(error))

    def described(error):
        """An exception's name, value and traceback, without what is not the cell's."""
        frames = error.__traceback__
        while frames and not frames.tb_frame.f_code.co_filename.startswith("<cell "):
            frames = frames.tb_next
        try:
            value = str.encode(str(error), "utf-8", "replace").decode()
        except Exception:
            value = untold
        try:
            # None of the cell's where its text is wrong, or a library's method failed.
            frames = frames or error.__traceback__
            told = part = traceback.TracebackException(type(error), error, frames)
            while part:
                part.stack[:] = [frame for frame in part.stack if frame.filename != here]
                part = part.__cause__ or part.__context__
            text = "".join(told.format())
        except Exception:
            text = f"{name_of(error)}: {value}\n"
        return name_of(error), shortened(value, 4096), shortened(text, 32768)

    def finish(coroutine):
        """Runs a coroutine on the loop that the context's cells share."""
        import asyncio

        use_loop()
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                try:
                    loop.run_until_complete(task)
                except BaseException:
                    pass
            raise

    def is_coroutine(code):
        return code.co_flags & 0x80  # CO_COROUTINE

    async def run_awaiting(codes):
        value = None
        for code in codes:
            value = eval(code, namespace)
            if is_coroutine(code):
                value = await value
        return value

    def is_silent(source, last):
        """Whether a semicolon follows the last expression."""
        lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        rest = lines[last.end_lineno - 1].encode()[last.end_col_offset :].decode()
        return ";" in rest.split("#")[0]

    def run(source, name):
        nonlocal flags
        use_loop()
        tree = compile(source, name, "exec", flags | ast.PyCF_ONLY_AST, True)
        body, codes = tree.body, []
        last = None
        if body and isinstance(body[-1], ast.Expr) and not is_silent(source, body[-1]):
            last = ast.Expression(body.pop().value)
        # Both before the first runs: a cell with a wrong last line does nothing.
        if body:
            codes.append(compile(tree, name, "exec", flags, True))
            flags |= codes[0].co_flags & futures
        if last:
            codes.append(compile(last, name, "eval", flags, True))
        namespace["__builtins__"] = builtins
        if any(map(is_coroutine, codes)):
            value = finish(run_awaiting(codes))
        else:
            value = None
            for code in codes:
                value = eval(code, namespace)
        if last and value is not None:
            builtins._ = value
            show(value, is_result=True)

    def exit_code(error):
        if isinstance(error, SystemExit):
            if error.code is None:
                return 0
            if isinstance(error.code, int):
                return error.code & 0xFF if abs(error.code) < 1 << 63 else 255
            return 1
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1

    def ended(error):
        """The message that a cell has ended."""
        if error is None or (isinstance(error, SystemExit) and exit_code(error) == 0):
            return field(3, b"")
        return failed(error, *described(error))

    def failed(error, name, value, text):
        described_error = field(1, name[:256]) + field(2, value) + field(3, text)
        return field(3, field(1, exit_code(error)) + field(2, described_error))

    def run_first(source, name):
        """The cell itself."""
        nonlocal mode, interrupted_at
        interrupted_at = 0.0
        try:
            mode = in_cell
            call_waiting()
            try:
                run(source, name)
            finally:
                show_figures()
        finally:
            mode = busy

    def end_child(error):
        """Ends a child that came to the end of a cell, as it would have ended as a program."""
        if isinstance(error, SystemExit):
            if exit_code(error) == 1 and not isinstance(error.code, int):
                complain(f"{error.code}\n")
        elif error is not None:
            complain(described(error)[2])
        flush_both()
        os._exit(exit_code(error) if error is not None else 0)

    def run_cell(number, source):
        """Runs a cell, and returns the message that it has ended. What it has written is in its pipes then."""
        nonlocal mode
        name = f"<cell {number}>"
        # inspect and traceback find the source here.
        linecache.cache[name] = len(source), None, source.splitlines(True), name
        shown_figures.clear()
        error = message = None
        # What an exception says of itself is the cell's, and so is what it has put in the place of its streams: it may
        # be interrupted, or raise.
        for attempt in range(10):
            try:
                if attempt == 0:
                    run_first(source, name)
                mode = in_cell
                call_waiting()
                if os.getpid() != own_pid:
                    end_child(error)
                if message is None:
                    told = attempt < 5
                    message = ended(error) if told else failed(error, name_of(error), untold, untold)
                flush_both()
                break
            except BaseException as raised:
                mode = busy
                if error is None and message is None:
                    error = raised
        mode = busy
        error = None  # Whose traceback has this frame, and what the cell's had.
        return message or ended(None)

    untold = "<it cannot be told>"
    control.sendall(b"c")
    _, outputs = receive_with_descriptors(1)
    for output in outputs:
        os.set_inheritable(output, False)
    take_outputs()
    take_input([])
    renew_stdin()
    run_cell(0, "0;")  # the first run of anything takes longer
    send(field(1, b""))
    while True:
        number, source, descriptors = receive()
        if descriptors:
            take_input(descriptors)
        try:
            message = run_cell(number, source)
        except BaseException as late:  # By a handler, just where the next attempt begins.
            mode = busy
            message = failed(late, name_of(late), untold, untold)
        take_outputs()
        take_input([])
        renew_stdin()
        send(message, is_answered=True)
        # What came until it was answered was that cell's.
        if signal.SIGINT in waiting:
            waiting.remove(signal.SIGINT)


try:
    _serve()
except OSError:
    # A cell has closed the socket. The agent kills the context once it sees that, and which of the two comes first must
    # not decide how the context has ended.
    import os

    os.kill(os.getpid(), 9)
