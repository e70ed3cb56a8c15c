"""What the interpreter in a sandbox runs first: it confines itself, says so, then runs the code.

`mosa.utility.sandbox` sends this file as text, for that interpreter can read nothing of the
project. Imports are few: `pickle`, `json` and `typing` import `re`, which doubles a start's time.
"""

import ctypes
import marshal
import os
import resource
import sys
from _pickle import Unpickler, dumps, load

RESTRICT_SELF = 446  # landlock_restrict_self, on every architecture
PDEATHSIG, SECCOMP, NO_NEW_PRIVS = 1, 22, 38  # options of prctl
SIGKILL, FILTER = 9, 2


class _Program(ctypes.Structure):
    """struct sock_fprog: eight bytes an instruction."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def confine(job: dict) -> None:
    """Limits, no environment, no other descriptors, Landlock if `job` has rules, seccomp.

    Raises OSError where the kernel refuses any of it; the caller is told "confined" at the end.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def ask(call, *arguments) -> None:
        if call(*arguments):
            code = ctypes.get_errno()
            raise OSError(code, f"{call.__name__}{arguments[:2]}: {os.strerror(code)}")

    ask(libc.prctl, PDEATHSIG, SIGKILL)  # it ends with its caller
    for kind, most in job["limits"]:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    os.environ.clear()
    ask(libc.prctl, NO_NEW_PRIVS, 1, 0, 0, 0)
    for ruleset in job["rules"]:
        ask(libc.syscall, RESTRICT_SELF, ruleset, 0)
    first = 3
    for kept in sorted([*job["pipes"], job["told"]]):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, 1 << 20)
    program = _Program(len(job["filter"]) // 8, job["filter"])
    ask(libc.prctl, SECCOMP, FILTER, ctypes.byref(program))
    os.write(job["told"], b"confined")
    os.close(job["told"])


def execute(source: str, name: str, **given: object) -> dict:
    """The names of a module `name`, which begins with those `given`, after `source` has run."""
    module = sys.modules[name] = type(sys)(name)
    vars(module).update(given)
    exec(compile(source, f"<{name}>", "exec"), vars(module))
    return vars(module)


def plain(value: object) -> object:
    """Builtin types alone: what extends one (a Counter, a named tuple) becomes what it extends."""
    for kind in (bool, int, float, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(plain, value))
    return value


def answer(function, questions, answers) -> None:
    """Calls `function` as it is asked to, until nobody asks any more."""
    try:
        while True:
            arguments, named = load(questions)
            try:
                reply = dumps((True, plain(function(*arguments, **named))))
            except BaseException as error:  # SystemExit too is no answer
                reply = dumps((False, f"{type(error).__name__}: {error}"))
            answers.write(reply)
    except (EOFError, BrokenPipeError):
        pass


class Plain(Unpickler):
    """Reads builtin values alone. A class or a function could decide the comparisons itself."""

    def find_class(self, module: str, name: str) -> None:
        raise TypeError(f"the completion returned a {module}.{name}")


class Candidate:
    """The function in the other sandbox: calls pass by value."""

    def __init__(self, questions, answers) -> None:
        self.questions, self.answers = questions, answers

    def __call__(self, *arguments: object, **named: object) -> object:
        try:
            self.questions.write(dumps((arguments, named)))
            done, value = Plain(self.answers).load()
        except (OSError, EOFError):
            raise RuntimeError("the completion ended before it answered") from None
        if not done:
            raise RuntimeError(value)
        return value


def main() -> None:
    job = marshal.load(sys.stdin.buffer)
    pipes = [open(fd, mode, buffering) for fd, mode, buffering
             in zip(job["pipes"], ("rb", "wb"), (-1, 0))]
    confine(job)
    if job["role"] == "program":
        execute(job["source"], "__main__")
    elif job["role"] == "completion":
        answer(execute(job["source"], "completion")[job["entry_point"]], *pipes)
    else:
        candidate = Candidate(*reversed(pipes))
        helpers = execute(job["prompt"] + "    pass\n", "prompt")  # some tests call them
        given = helpers | {job["entry_point"]: candidate}
        execute(job["source"], "tests", **given)["check"](candidate)


if __name__ == "__main__":
    main()
