"""Runs in the app's own Python, in the release: loads the project once; each command is a fork of what is loaded.

    python stage.py CHANNEL REQUEST

REQUEST is JSON. `words` is a command line of manage.py; where `question` is given, that question of probe.py is
answered in the command's place; `low_priority`: at that of a build; `collected` is for collectstatic, and says what
collected.py is to remember. CHANNEL is the number of a socket, or "-".

The project's manage.py runs with these words, as Python itself would run it, up to the moment at which Django looks
the command up: whatever manage.py, dotenv or django-configurations prepare is there, and Django is set up. Without a
channel, or when the project did what no fork should share (traps.py), the process goes on as the one command it was
started for. Else it is the stage: it says so, and forks a child for each request, which goes on from that moment
with words and pipes of its own. The stage ends when its channel is closed, so never after the agent.

Standard library and Django only, Python 3.8 and later.
"""

import builtins
import gc
import importlib.machinery
import importlib.util
import json
import os
import signal
import socket
import sys
import types


def neighbours():
    """The modules beside this file, without a trace of them: a project may have some of the same names."""
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import collected
    import probe
    import traps

    sys.dont_write_bytecode = kept
    del sys.path[0]
    for name in ("changed", "collected", "probe", "sources", "traps"):
        del sys.modules[name]
    return collected, probe, traps


collected, probe, traps = neighbours()
SELDOM = 50000  # what a project loads stays: to look for garbage in it as often as usual is in vain


class Start:
    """One start of the project."""

    def __init__(self, channel, request):
        self.channel = channel
        self.request = request
        self.reached = False
        self.traps = traps.Traps(request["words"], request.get("others", []))

    def run(self):
        words = self.request["words"]
        be_called([sys.executable, *words])
        self.thresholds = gc.get_threshold()
        gc.set_threshold(SELDOM)
        # what Python does with a script's name (since 3.9 the module knows its whole path)
        path = os.path.abspath(words[0]) if sys.version_info >= (3, 9) else words[0]
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = os.path.dirname(os.path.realpath(path))
        when_imported("django.core.management", self.hook)
        try:
            run_script(path)
            if not self.reached and self.request.get("question"):
                import django

                django.setup()
                self.answer()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            trace = error.__traceback__
            while trace and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            sys.stdout.flush()  # in the order of Python itself
            sys.excepthook(type(error), error.with_traceback(trace), trace)
            sys.exit(1)

    def hook(self, management):
        """Have ManagementUtility come to us when it looks up the command that the process was started for."""
        self.utility = management.ManagementUtility
        self.look_up = self.utility.fetch_command

        def fetch_command(utility, subcommand):
            # asked of the list itself: that is no look at sys.argv
            if not isinstance(utility.argv, list) or list.__ne__(utility.argv, self.request["words"]):
                return self.look_up(utility, subcommand)  # manage.py runs another command first
            self.reach(utility)
            return self.look_up(utility, utility.argv[1])

        self.utility.fetch_command = fetch_command

    def reach(self, utility):
        """Django is set up. Returns in the process of one command: a child of the stage, or this one."""
        self.reached = True
        self.utility.fetch_command = self.look_up
        if self.channel:
            self.serve(utility)
        if gc.get_threshold()[0] == SELDOM:  # else the project has set its own
            gc.set_threshold(*self.thresholds)
        words = self.request["words"]
        be_called([sys.executable, *words])
        is_argv = utility.argv is sys.argv
        self.traps.settle(words)
        utility.argv = sys.argv if is_argv else list(words)
        if self.request.get("collected"):
            collected.remember(self.request["collected"])
        if self.request.get("question"):
            if utility.settings_exception:
                raise utility.settings_exception
            self.answer()

    def answer(self):
        """The answer goes to a file, since the project's own code may print what it likes. Ends the process."""
        result = probe.QUESTIONS[self.request["question"]](self.request["arguments"])
        with open(self.request["answer"], "w", encoding="utf-8") as file:
            json.dump(result, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # Python would take apart all that the project has loaded, which is slow

    def serve(self, utility):
        """Be the stage, when nothing stands against it. Returns in a child, or at once."""
        try:
            against = "its settings cannot be read" if utility.settings_exception else self.traps.found()
        except Exception as error:
            against = "it could not be looked at (%r)" % error
        if against:
            self.tell({"against": against})
            self.channel.close()
            return
        handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            # a look for garbage, and the one at the end of each child, would copy all pages that they share
            gc.freeze()
            self.tell({"ready": True})
            while True:
                message, output = self.receive()
                if "poll" in message:
                    self.tell({"returncode": exit_code(message["poll"])})
                    continue
                try:
                    child = os.fork()
                except OSError as error:
                    self.tell({"error": error.strerror})
                    continue
                if not child:
                    break
                os.close(output)
                self.tell({"pid": child})
        except BaseException:  # the agent is gone, or we are: no frame of manage.py may go on here
            os._exit(1)
        os.setsid()
        if message["low_priority"]:  # the stage itself is at the agent's: what is lowered cannot be raised again
            lower()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        self.channel.close()
        signal.signal(signal.SIGTERM, handler)
        traps.reopen_rotating_logs()
        traps.seed_numpy()
        self.request = message

    def tell(self, message):
        self.channel.sendall(json.dumps(message).encode())

    def receive(self):
        """One request, and the pipe for the output of a command."""
        size = socket.CMSG_SPACE(4)
        data, ancillary, _, _ = self.channel.recvmsg(1 << 20, size, socket.MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        output = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else -1
        return json.loads(data.decode()), output


def be_called(words):
    """What ps and fuser show of this process: the command, where the system lets us write it (proc(5), cmdline)."""
    try:
        with open("/proc/self/stat") as file:
            begin, end = (int(field) for field in file.read().rpartition(")")[2].split()[45:47])
        line = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - begin - 1]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(line.ljust(end - begin, b"\0"))
    except (OSError, ValueError):
        pass


def lower():
    """What the agent's process.lower does; before anything of the command runs."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 10)
    except OSError:
        return


def exit_code(child):
    """None while it runs; minus the signal that ended it, as subprocess has it."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        return None
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def run_script(path):
    """What `python path` does, in this process."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        where = (sys.executable, os.path.abspath(path), error.errno, error.strerror)
        sys.stderr.write("%s: can't open file %r: [Errno %d] %s\n" % where)
        sys.exit(2)
    module = types.ModuleType("__main__")
    module.__file__, module.__builtins__ = path, builtins
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = module
    exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)


def when_imported(name, act):
    """Have a module given to `act` once it is there. We do not import it: manage.py may first say from where."""
    if name in sys.modules:
        act(sys.modules[name])
        return

    class Finder:
        def find_spec(self, wanted, path=None, target=None):
            if wanted != name:
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                act(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())


def main():
    channel = None
    if sys.argv[1] != "-":
        channel = socket.socket(fileno=int(sys.argv[1]))
        channel.set_inheritable(False)
    with open(int(sys.argv[2]), "rb") as file:
        request = json.loads(file.read().decode())
    Start(channel, request).run()


if __name__ == "__main__":
    main()
