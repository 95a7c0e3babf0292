"""Runs in the app's own Python: what a project does while it loads that a fork would share, miss or repeat.

A child of the stage must be what a process of its own would be. Where that is not so, the stage is not used, and
`Traps.found` says why. Standard library and Django only, Python 3.8 and later.
"""

import atexit
import logging
import os
import signal
import stat
import sys
import threading
import weakref

# What they do at exit, or with weak references, is done to the memory of one process only. (Connections that they
# would close, and threads that they would end, are found by themselves.)
HARMLESS_AT_EXIT = {
    "PIL._imaging", "billiard.util", "celery.utils.dispatch.signal", "certifi.core", "concurrent.futures.process",
    "concurrent.futures.thread", "django.dispatch.dispatcher", "logging", "multiprocessing.util",
    "sentry_sdk.integrations.atexit", "sentry_sdk.profiler.continuous_profiler",
    "sentry_sdk.profiler.transaction_profiler", "urllib3.connectionpool", "weakref",
}  # fmt: skip
# They look at sys.argv for options of Django's that the agent never gives.
HARMLESS_READERS = {"configurations.importer", "django.core.management", "django.core.management.base"}
HARMLESS_DEVICES = {"/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"}
READS = (
    "__add__", "__contains__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iter__", "__le__", "__len__", "__lt__",
    "__mul__", "__ne__", "__reduce_ex__", "__repr__", "__reversed__", "__rmul__", "copy", "count", "index",
)  # fmt: skip
CHANGES = (
    "__delitem__", "__iadd__", "__imul__", "__setitem__", "append", "clear", "extend", "insert", "pop", "remove",
    "reverse", "sort",
)  # fmt: skip


class Words(list):
    """sys.argv while the project loads: notes each look at it that another command would answer otherwise.

    So `"test" in sys.argv` and `sys.argv[0]` are no harm, and `sys.argv[1]` is.
    """

    def __init__(self, words, others, note):
        super().__init__(words)
        self.others = others
        self.note = note

    def settle(self, words):
        """Become a plain list of these words, for whoever kept it."""
        self.note = None
        list.__setitem__(self, slice(None), words)

    def __radd__(self, other):
        return self.looked_at("__radd__", lambda words: other + list.copy(words))

    def looked_at(self, name, look):
        reader = sys._getframe(2)
        if self.note is None or reader.f_globals.get("__name__") in HARMLESS_READERS:
            return look(self)
        where = "%s:%d" % (os.path.basename(reader.f_code.co_filename), reader.f_lineno)
        if name in CHANGES:
            self.note(where)
            return look(self)
        first, *others = [_outcome(look, words) for words in [self, *self.others]]
        if all(first == other for other in others):
            return look(self)
        if name == "__getitem__" and isinstance(first, list):
            return Words(first, others, self.note)  # a part of it is looked at in the same way
        self.note(where)
        return look(self)


def _outcome(look, words):
    try:
        answer = look(words)
    except Exception as error:
        return type(error)
    return list(answer) if hasattr(answer, "__next__") else answer


def _watched(name):
    method = getattr(list, name)

    def looked_at(self, *arguments, **named):
        return self.looked_at(name, lambda words: method(words, *arguments, **named))

    return looked_at


for _name in READS + CHANGES:
    setattr(Words, _name, _watched(_name))


class Traps:
    """Set before the project loads; asked when it has."""

    def __init__(self, words, others):
        self.read_at = []
        self.left_at_exit = []
        self.argv = Words(words, others, self.read_at.append)
        self.orig_argv = Words(
            [sys.executable, *words], [[sys.executable, *other] for other in others], self.read_at.append
        )
        self.open_before = descriptors()
        self.register = atexit.register
        sys.argv = self.argv
        if hasattr(sys, "orig_argv"):  # since Python 3.10
            sys.orig_argv = self.orig_argv
        atexit.register = self.note_at_exit

    def note_at_exit(self, function, *arguments, **named):
        self.left_at_exit.append(str(getattr(function, "__module__", None)))
        return self.register(function, *arguments, **named)

    def found(self):
        """Why a fork would not be what a process of its own is; "" when nothing is known against it."""
        if getattr(sys.modules.get("gevent.monkey"), "saved", None):
            return "it patches Python with gevent"
        if getattr(sys.modules.get("eventlet.patcher"), "already_patched", None):
            return "it patches Python with eventlet"
        if self.read_at:
            return "it reads sys.argv (%s)" % self.read_at[0]
        if sys.argv is not self.argv:
            return "it replaces sys.argv"
        from django.db import connections

        connections.close_all()
        return (
            started_threads() or started_programs() or signals_and_timers() or self.ends() or self.descriptors()
            or shared_memory() or static_files()
        )  # fmt: skip

    def settle(self, words):
        """From here on the command line is that of this command, and nothing is noted any more."""
        atexit.register = self.register
        ours = sys.argv is self.argv
        self.argv.settle(words)
        self.orig_argv.settle([sys.executable, *words])
        if ours:
            sys.argv = list(words)
            if getattr(sys, "orig_argv", None) is self.orig_argv:
                sys.orig_argv = [sys.executable, *words]

    def ends(self):
        """What runs at exit runs in each child; a temporary folder would be gone after the first."""
        left = set(self.left_at_exit)
        finalizers = getattr(weakref.finalize, "_registry", {})
        left.update(str(getattr(entry.func, "__module__", None)) for entry in list(finalizers.values()) if entry.atexit)
        left = sorted(left - HARMLESS_AT_EXIT)
        return "it leaves something to do at exit (%s)" % left[0] if left else ""

    def descriptors(self):
        """Files and sockets that were opened meanwhile would be one for all children, with one position."""
        harmless = logging_descriptors()
        for number, identity in descriptors().items():
            if number in harmless or self.open_before.get(number) == identity:
                continue
            try:
                path = os.readlink("/proc/self/fd/%d" % number)
            except OSError:
                continue
            if path not in HARMLESS_DEVICES:
                return "it keeps %s open" % path
        return ""


def descriptors():
    """What is open: number to identity."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            facts = os.fstat(int(name))
        except OSError:  # the folder's own
            continue
        found[int(name)] = (facts.st_dev, facts.st_ino, stat.S_IFMT(facts.st_mode))
    return found


def log_handlers():
    return [handler for handler in (reference() for reference in list(logging._handlerList)) if handler is not None]


def logging_descriptors():
    """Log files that are only appended to, and datagrams to syslog: each record stands for itself."""
    found = set()
    handlers = sys.modules.get("logging.handlers")
    appending = [logging.FileHandler]
    if handlers:
        appending += [handlers.RotatingFileHandler, handlers.WatchedFileHandler]
    for handler in log_handlers():
        if type(handler) in appending and handler.mode.startswith("a") and handler.stream:
            found.add(handler.stream.fileno())
        elif handlers and type(handler) is handlers.SysLogHandler:
            sender = getattr(handler, "socket", None)
            if sender and handler.socktype == 2:  # SOCK_DGRAM
                found.add(sender.fileno())
    return found


def reopen_rotating_logs():
    """In a child: the file may have been moved away by the child before."""
    handlers = sys.modules.get("logging.handlers")
    for handler in log_handlers():
        if handlers and type(handler) is handlers.RotatingFileHandler and handler.stream:
            handler.stream.close()
            handler.stream = handler._open()


def seed_numpy():
    """In a child: Python's own random numbers begin anew in a fork, numpy's do not. A seed of the project's stays."""
    drawn = sys.modules.get("numpy.random")
    state = getattr(getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None), "_bit_generator", None)
    if drawn and getattr(state, "_seed_seq", None) is not None:  # None: seed() was called
        drawn.seed()


def started_threads():
    if threading.active_count() > 1:
        names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return "it starts threads (%s)" % ", ".join(names)
    if len(os.listdir("/proc/self/task")) > 1:
        # a library's own: OpenBLAS, which numpy brings, ends its threads before a fork and says so to the system
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        if len(os.listdir("/proc/self/task")) > 1:
            return "a library of it starts threads"
    return ""


def started_programs():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    return "it leaves programs running"


def signals_and_timers():
    """The stage must hear of its children; a timer does not go on in a fork."""
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL or signal.getsignal(signal.SIGTERM) is None:
        return "it handles SIGCHLD or SIGTERM"
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    if any(signal.getitimer(timer) != (0.0, 0.0) for timer in timers):
        return "it sets a timer"
    return ""


def shared_memory():
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split(None, 5)
            if words[1][1] == "w" and words[1][3] == "s":
                return "it shares memory (%s)" % words[-1].strip()
    return ""


def static_files():
    """The storage of static files keeps its list of them, which collectstatic then writes anew."""
    from django.utils.functional import empty

    used = sys.modules.get("django.contrib.staticfiles.storage")
    files = sys.modules.get("django.core.files.storage")
    storages = getattr(getattr(files, "storages", None), "_storages", {})  # since Django 4.2
    if (used and used.staticfiles_storage._wrapped is not empty) or "staticfiles" in storages:
        return "it uses its static files"
    return ""
