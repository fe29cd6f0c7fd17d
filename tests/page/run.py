"""Proves docs/python.md: runs each of its blocks against a real server, and shows what it says of losses.

    run.py --penstock BINARY [--python INTERPRETER] [--venv DIR] [--only NAME] [--strict]

Exit code 0 when all is as the page says, 1 when something is not; with --strict 3 when something could not be run.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import cases
import losses
import losses_libraries  # noqa: F401  its cases are with those of losses
import losses_queues  # noqa: F401
from page import ROOT, Page
from place import Failed, Place

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main():
    options = arguments()
    python = libraries(Path(options.venv), options.python)
    version = tuple(map(int, output([python, "-c", "import sys; print(*sys.version_info[:2])"]).split()))
    page = Page()
    wanted = [case for case in cases.CASES + losses.CASES if not options.only or options.only in case.name]
    results = {case.name: result_of(case, page, options.penstock, python, version) for case in wanted}
    failed = page.problems + [name for name, result in results.items() if result == "FAILED"]
    skipped = [name for name, result in results.items() if result == "skipped"]
    if not results:
        failed.append(f"no case is called {options.only}")
    if not (options.only or skipped):
        failed += [f"nothing runs the block {name}" for name in page.unused()]
    passed = list(results.values()).count("ok")
    print(f"Python {version[0]}.{version[1]}: {passed} as the page says, {len(failed)} not, {len(skipped)} skipped")
    for what in failed + [f"skipped: {name}" for name in skipped]:
        print(f"  {what}")
    return 1 if failed else 3 if skipped and options.strict else 0


def result_of(case, page, penstock, python, version):
    """Runs the case, and prints its line."""
    lacking = [module for module in case.needs if not has(python, module)]
    if version < case.since:
        page.used.update(case.blocks)
        result, why = "not for this Python", f"{case.since[0]}.{case.since[1]} or newer"
    elif lacking:
        result, why = "skipped", f"no {', '.join(lacking)}"
    else:
        why = attempt(case, page, penstock, python)
        result = "FAILED" if why else "ok"
    print(f"{result}: {case.name}" + (f": {why}" if why else ""), flush=True)
    return result


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--penstock", required=True, type=os.path.abspath, help="the server's program")
    parser.add_argument("--python", default=sys.executable, help="whose logging is tried")
    parser.add_argument("--venv", default=os.path.join(tempfile.gettempdir(), "penstock-page"), help="where the libraries are kept")
    parser.add_argument("--only", help="cases with this in their name")
    parser.add_argument("--strict", action="store_true", help="what could not be run is a failure")
    return parser.parse_args()


def attempt(case, page, penstock, python):
    """What is wrong, if anything is."""
    place = Place(page, penstock, python)
    try:
        case.run(place)
    except Failed as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    finally:
        place.close()
    return None


def output(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def has(python, module):
    find = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({module!r}))"
    return subprocess.run([python, "-c", find], cwd=tempfile.gettempdir()).returncode == 0


def libraries(cache, python):
    """The interpreter of a venv with everything that could be installed; one for each version of Python."""
    version = output([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]).strip()
    venv = cache / version
    own = venv / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
    wanted = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    once(venv / "requirements.stamp", "\n".join(wanted), lambda: install_each(own, wanted))
    handler = ROOT / "python"
    if (handler / "pyproject.toml").exists():
        again = ["--force-reinstall", "--no-deps", str(handler)]
        once(venv / "handler.stamp", print_of(handler), lambda: install(own, again))
    return str(own)


def once(stamp, text, do):
    """Does it unless it was done for the same text."""
    if not stamp.exists() or stamp.read_text() != text:
        if do():
            stamp.write_text(text)


def install_each(python, wanted):
    """All at once, or those that can be had; whether there is nothing to try again."""
    return install(python, wanted) or all([install(python, [one]) for one in wanted])


def install(python, what):
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    if done.returncode and len(what) == 1:
        print(f"pip cannot install {what[0]}: {done.stdout.strip().splitlines()[-1:]}", flush=True)
    return done.returncode == 0


def print_of(folder):
    files = [folder / "pyproject.toml", *sorted((folder / "src").rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
