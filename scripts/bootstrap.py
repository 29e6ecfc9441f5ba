"""Make `.venv` as the lock says; nothing to do when it is current. Standard library only.

Parses under Python 3.6, so that an old Python can say what is missing instead of failing on syntax.
Safe to interrupt (the stamp is written last; a venv without one is made again from nothing) and to
run twice at once (the second waits). `PYTHON=python3.12` chooses the interpreter.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "goqueue-stamp.json")
LOCK = os.path.join(ROOT, ".venv.lock")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
INPUTS = ("requirements/dev.txt", "pyproject.toml", "scripts/bootstrap.py")
LOCK_WAIT_S = 900
PROBE = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"


def main():
    if current():
        return
    with_lock(install)


# -- is there anything to do -----------------------------------------------------------------------


def wanted():
    """What the venv depends on: the inputs, where it lives (scripts hold that path), the Python."""
    digest = hashlib.sha256()
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
        digest.update(b"\0")
    return {"inputs": digest.hexdigest(), "root": ROOT}


def read_stamp():
    try:
        with open(STAMP, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def current():
    stamp = read_stamp()
    if stamp is None or not os.path.exists(VENV_PYTHON):
        return False
    return matches_python(stamp) and {key: stamp.get(key) for key in ("inputs", "root")} == wanted()


def matches_python(stamp):
    asked = os.environ.get("PYTHON", "")
    return not asked or asked in (stamp.get("asked"), stamp.get("python"))


# -- one at a time ---------------------------------------------------------------------------------


def with_lock(action):
    import fcntl

    with open(LOCK, "w") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (IOError, OSError):
                if time.monotonic() > deadline:
                    fail("another set-up has held .venv.lock for 15 minutes; end it and try again")
                if not told:
                    say("another set-up of this tree is running; waiting for it")
                    told = True
                time.sleep(0.2)
        if not current():
            action()


def install():
    started = time.monotonic()
    stamp = read_stamp()
    keep = stamp is not None and stamp.get("root") == ROOT and matches_python(stamp) and runs(VENV_PYTHON) is not None
    if keep:
        python = stamp["python"]
        os.remove(STAMP)  # from here on an interruption means: make it again
    else:
        python = find_python()
        if os.path.lexists(VENV):
            say("removing a .venv that is incomplete, moved or made by another Python")
            shutil.rmtree(VENV)
        say("making .venv with %s" % python)
        run([python, "-m", "venv", VENV], "could not make .venv")
    say("installing the locked packages (half a minute the first time)")
    pip = [VENV_PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "-q"]
    lock = os.path.join(ROOT, "requirements", "dev.txt")
    run(pip + ["--require-hashes", "-r", lock], OFFLINE)
    run(pip + ["--no-deps", "--no-build-isolation", "-e", ROOT], "could not install the project")
    stamp = wanted()
    stamp["python"] = python
    stamp["asked"] = os.environ.get("PYTHON", "")
    temporary = STAMP + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(stamp, file)
    os.replace(temporary, STAMP)
    say(".venv is ready (%.0f s)" % (time.monotonic() - started))


OFFLINE = """could not install the packages of requirements/dev.txt (pip's own words are above).
  No network or behind a proxy: pip needs its package index; set HTTPS_PROXY or PIP_INDEX_URL
  (a local mirror or PIP_FIND_LINKS with wheels will do) and run the same command again.
  No matching distribution: a package has no build for this platform or Python; PYTHON=python3.12
  or another version from 3.11 on may have one."""


# -- find a Python ---------------------------------------------------------------------------------


def find_python():
    """The first interpreter that is new enough and can make a venv; else say what to install."""
    asked = os.environ.get("PYTHON")
    names = ["python3.13", "python3.12", "python3.11", "python3.14", "python3", "python"]
    candidates = [asked] if asked else [sys.executable] + names
    found, without_venv = [], []
    for name in candidates:
        answer = runs(name)
        if answer is None:
            continue
        version, path = answer
        found.append("%s (%s)" % (path, ".".join(map(str, version))))
        if version < OLDEST:
            continue
        if can_make_venv(path):
            return path
        without_venv.append((version, path))
    if without_venv:
        fail(no_venv_text(*without_venv[0]))
    fail(no_python_text(found, asked))


def runs(name):
    """((major, minor), real path) of an interpreter, or None if it does not run."""
    try:
        output = subprocess.check_output([name, "-I", "-c", PROBE], stderr=subprocess.DEVNULL, universal_newlines=True)
        version, path = output.strip().split("\n")
        return tuple(int(part) for part in version.split(".")), path
    except (OSError, TypeError, ValueError, subprocess.CalledProcessError):
        return None


def can_make_venv(path):
    command = [path, "-I", "-c", "import ensurepip, venv"]
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def no_venv_text(version, path):
    dotted = "%d.%d" % version
    if is_debian():
        return "%s has no venv module. Install it and run the same command again:\n  %s%s" % (
            path,
            sudo(),
            "apt-get install python%s-venv" % dotted,
        )
    return "%s lacks the modules venv and ensurepip: install the full Python %s" % (path, dotted)


def no_python_text(found, asked):
    text = "GoQueue needs Python 3.11 or newer."
    if asked:
        text += " PYTHON=%s is not one." % asked
    text += "\n  Found: %s\n" % (", ".join(dict.fromkeys(found)) or "none")
    if sys.platform == "darwin":
        return text + "  Install one: brew install python@3.13"
    if is_debian():
        return text + (
            "  Install one: %sapt-get install python3 python3-venv"
            "\n  (that is 3.11 or newer from Debian 12 and Ubuntu 24.04 on)" % sudo()
        )
    return text + "  Install one with your system's package manager, or choose it: PYTHON=/path"


def is_debian():
    return os.path.exists("/etc/debian_version")


def sudo():
    return "" if os.geteuid() == 0 else "sudo "


# -- small things ----------------------------------------------------------------------------------


def run(command, failure):
    # A user's own pip settings (mirror, certificates) stay; those that break a venv do not.
    environment = dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PYTHONNOUSERSITE="1")
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX"):
        environment.pop(name, None)
    if subprocess.call(command, env=environment, cwd=ROOT) != 0:
        fail(failure)


def say(text):
    sys.stderr.write("set-up: %s\n" % text)
    sys.stderr.flush()


def fail(text):
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; the next run starts .venv afresh")
