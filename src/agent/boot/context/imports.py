# What becomes of modules that cells import: figures and other people's displays come here, and there is one loop of asyncio.

import importlib.machinery
import os
import sys

from .displays import display, publish_display_data, show_figures

_loop = None


def use_loop():
    """Cells have one loop, where they have any: asyncio.run leaves none behind."""
    global _loop
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not hasattr(asyncio, "set_event_loop"):
        return
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)


def finish(coroutine):
    """Runs a coroutine on the loop that the context's cells share."""
    import asyncio  # A cell can await without it.

    use_loop()
    task = _loop.create_task(coroutine)
    try:
        return _loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            try:
                _loop.run_until_complete(task)
            except BaseException:
                pass
        raise


def _draw_without_a_screen(matplotlib):
    if "MPLBACKEND" not in os.environ:
        matplotlib.rcParams["backend"] = "agg"


def _show_here(pyplot):
    pyplot.show = show_figures


def _display_here(module):
    ours = {
        "display": display,
        "update_display": display,
        "publish_display_data": publish_display_data,
    }
    for name, function in ours.items():
        if name in vars(module):
            setattr(module, name, function)


_CHANGES = {
    "asyncio": lambda _: use_loop(),
    "matplotlib": _draw_without_a_screen,
    "matplotlib.pyplot": _show_here,
    "IPython.core.display_functions": _display_here,
    "IPython.core.display": _display_here,
    "IPython.display": _display_here,
}


class _Finder:
    """Changes those modules once they have been imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        change = _CHANGES.get(name)
        spec = change and importlib.machinery.PathFinder.find_spec(name, path, target)
        if not spec or not spec.loader:
            return None
        execute = spec.loader.exec_module

        def executed(module):
            execute(module)
            change(module)

        spec.loader.exec_module = executed
        return spec


sys.meta_path.insert(0, _Finder)
for _name, _change in _CHANGES.items():
    if _name in sys.modules:
        _change(sys.modules[_name])
