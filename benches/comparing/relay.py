"""A penstock of the release build in a folder of its own."""
import os, pathlib, re, socket, subprocess, threading, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PENSTOCK = ROOT / "target/release/penstock"


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=ROOT, check=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Server:
    """Running until it is stopped; `{dir}` in the configuration is its folder. `port` is where its one input listens, `ports` has
    them by kind where there are several."""

    def __init__(self, folder, config, **values):
        folder.mkdir()
        path = folder / "penstock.toml"
        path.write_text(config.format(dir=folder, **values))
        self.process = subprocess.Popen([PENSTOCK, "run", "--config", path], stderr=subprocess.PIPE, text=True)
        self.ports = {}
        for line in self.process.stderr:
            if found := re.search(r"listening on (http\S+)$", line.strip()):
                self.metrics = found[1]
            elif found := re.search(r"listening on (\S+) .*:(\d+)$", line.strip()):
                self.port = self.ports[found[1]] = int(found[2])
            if "is ready" in line:
                break
        # It must not wait for somebody who reads its log.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def metric(self, name):
        """The sum over all labels."""
        text = urllib.request.urlopen(self.metrics).read().decode()
        return sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def cpu(self):
        """Seconds, user and system."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()
