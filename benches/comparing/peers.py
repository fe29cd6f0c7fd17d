"""Gets what is missing: rsyslog and strace from the distribution, syslog-ng unpacked beside it, penstock built."""
import contextlib, os, shutil, subprocess, sys

from .servers import PENSTOCK, SYSLOG_NG, TOOL, TOP

PACKAGES = {"rsyslogd": ["rsyslog", "rsyslog-openssl", "rsyslog-gnutls"], "strace": ["strace"]}
# Larger ones than the default are what every server's documentation advises for UDP; systemd sets the second.
KERNEL = {"net/core/rmem_max": 16 << 20, "net/unix/max_dgram_qlen": 512}


def build():
    if shutil.which("cargo"):
        subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--bins", "--examples"], cwd=TOP, check=True)
    if not (os.path.exists(PENSTOCK) and os.path.exists(TOOL)):
        sys.exit("cargo build --release --bins --examples comes first")


def install(names):
    """The servers of `names` that are there now; what is not there is said."""
    programs = ["strace"] + (["rsyslogd"] if any(name.startswith("rsyslog") for name in names) else [])
    wanted = [package for program in programs if not shutil.which(program) for package in PACKAGES[program]]
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"env": dict(os.environ, DEBIAN_FRONTEND="noninteractive"), "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", *wanted], **quiet)
    if "syslog-ng" in names and not has_syslog_ng():
        subprocess.run(["sh", os.path.join(TOP, "tests", "peers", "unpack-syslog-ng.sh"), SYSLOG_NG])
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        print(f"not here, and this goes on without: {', '.join(missing)} (apt-get install {' '.join(wanted)})")
    gone = [name for name in names if name.startswith("rsyslog") and not shutil.which("rsyslogd")]
    if "syslog-ng" in names and not has_syslog_ng():
        print("syslog-ng could not be unpacked, and this goes on without")
        gone.append("syslog-ng")
    return [name for name in names if name not in gone]


def has_syslog_ng():
    return os.path.exists(os.path.join(SYSLOG_NG, "usr", "sbin", "syslog-ng"))


@contextlib.contextmanager
def kernel_settings():
    """Raised where that is allowed, and put back."""
    before = {}
    try:
        for name, value in KERNEL.items():
            with contextlib.suppress(OSError):
                before[name] = setting(name)
                if before[name] < value:
                    setting(name, value)
        yield
    finally:
        for name, value in before.items():
            with contextlib.suppress(OSError):
                setting(name, value)


def setting(name, value=None):
    with open(f"/proc/sys/{name}", "r" if value is None else "w") as file:
        return int(file.read()) if value is None else file.write(str(value))
