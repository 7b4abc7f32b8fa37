"""Debian's packages, fetched and unpacked without being installed. Nothing here needs root."""

import fcntl
import os
import re
import subprocess
import tempfile
from pathlib import Path

STANZA = re.compile(r"^Package: (\S+)\n((?:.+\n)+)", re.M)
LIBRARY = re.compile(r"z?lib")


class Unavailable(Exception):
    """Something cannot be had: why, and what to do about it."""


def run(*command, **options):
    """The output of a program; one that fails is Unavailable with its reason."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename} is needed and not installed") from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().splitlines() or ["it failed"]
        what = " ".join(map(str, command[:2]))
        raise Unavailable(f"{what}: {why[-1]}") from None
    return done.stdout


def apt_get(*arguments, **options):
    try:
        run("apt-get", "-qq", *arguments, **options)
    except Unavailable as error:
        raise Unavailable(f"{error}: is there a network?") from None


# --- what apt knows ---


def depends(packages):
    """What packages need: name -> names, the first one where there is a choice."""
    command = ("apt-cache", "--no-all-versions", "show", *packages)
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise Unavailable("packages are had by apt, and there is none") from None
    return {name: needed(stanza) for name, stanza in re.findall(STANZA, shown)}


def needed(stanza):
    values = re.findall(r"^(?:Pre-)?Depends: (.*)", stanza, re.M)
    return [re.match(r"[^\s:|(]+", n)[0] for value in values for n in value.split(", ")]


def described(packages):
    """As depends, of all that is asked for: the lists are often missing on a fresh system."""
    found = depends(packages)
    if not found.keys() >= set(packages) and os.geteuid() == 0:
        apt_get("update")
        found = depends(packages)
    unknown = sorted(set(packages) - found.keys())
    if unknown:
        raise Unavailable(f"apt knows no {', '.join(unknown)}: run `apt-get update` as root")
    return found


def with_libraries(packages):
    """The packages, and those of the libraries that they and each other need."""
    found, new = {}, set(packages)
    while new:
        found |= described(sorted(new))
        new = {n for names in found.values() for n in names if LIBRARY.match(n)} - found.keys()
    return sorted(found)


# --- what it fetches ---


def unpack(packages, tree):
    """Fetches packages, which apt-get checks, and unpacks them into one folder."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=tree.parent) as part:
        apt_get("download", *packages, cwd=part)
        for archive in sorted(Path(part).glob("*.deb")):
            run("dpkg-deb", "-x", archive, tree)


def kept(path, make):
    """The folder `path`; when it is not there, make(part) puts into another one what it is to hold.
    That is done by one process at a time, and the folder gets its name when all is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_dir():
            with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as part:
                tree = Path(part, "tree")
                tree.mkdir()
                make(tree)
                tree.rename(path)
    return path
