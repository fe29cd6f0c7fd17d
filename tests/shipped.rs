//! What is shipped is checked: every configuration passes `penstock check` and does what it says, the units are clean
//! and as tight as they claim, and the metrics are what Prometheus takes.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{PENSTOCK, Server, TempDir, free_port, has, wait_until};
use penstock::config;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All configurations, by their paths below the project.
fn configurations() -> Vec<String> {
    let mut found: Vec<_> = common::files(&shipped("conf")).into_keys().map(|name| format!("conf/{name}")).collect();
    found.retain(|name| name.ends_with(".toml"));
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// Options that a `#` without a blank has switched off, switched on.
fn with_options(text: &str) -> String {
    let switched =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')).unwrap_or(line).to_owned();
    text.lines().map(switched).collect::<Vec<_>>().join("\n")
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn succeeds(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = run(program, arguments, folder);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// A CA, and what it has signed, under every name that a shipped configuration uses.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a folder"));
        let folder = made.0.path();
        let settings = "[req]\ndistinguished_name = name\n[name]\n[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ncrlnumber = number\n\
                        default_md = sha256\ndefault_crl_days = 9\ncrl_extensions = extensions\n[extensions]\nauthorityKeyIdentifier = keyid\n";
        for (name, content) in [("openssl.cnf", settings), ("index.txt", ""), ("number", "01\n")] {
            std::fs::write(folder.join(name), content).expect("written");
        }
        made.issue("ca", &["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"]);
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE", "-addext"];
        made.issue("server", &[&signed[..], &["subjectAltName=DNS:logs.example.com,IP:127.0.0.1"]].concat());
        made.issue("relay", &[&signed[..], &["subjectAltName=DNS:relay.example.com"]].concat());
        made.issue("stranger", &[&signed[..], &["subjectAltName=DNS:relay.example.org"]].concat());
        let crl = ["ca", "-config", "openssl.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "clients-crl.pem"];
        succeeds("openssl", &crl, folder);
        for copy in ["clients-ca.pem", "relay-ca.pem", "upstream-ca.pem"] {
            std::fs::copy(folder.join("ca.pem"), folder.join(copy)).expect("copied");
        }
        made
    }

    fn issue(&self, name: &str, more: &[&str]) {
        let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let common = [
            "req",
            "-x509",
            "-config",
            "openssl.cnf",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "9",
        ];
        let own = ["-keyout", &key, "-out", &certificate, "-subj", &subject];
        succeeds("openssl", &[&common[..], &own, more].concat(), self.0.path());
    }

    /// The configuration with these certificates in the place of those that it names.
    fn put_into(&self, text: &str) -> String {
        let folder = format!("\"{}/", self.0.path().display());
        text.replace("\"/etc/penstock/tls/", &folder).replace("\"./tls/", &folder)
    }
}

fn check(name: &str, text: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("penstock.toml"), text).expect("written");
    let output = run(PENSTOCK, &["check", "--config", "penstock.toml"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{name}");
}

#[test]
fn every_configuration_passes_check_without_a_warning() {
    if !has("openssl") {
        return;
    }
    let certificates = Certificates::new();
    for name in configurations() {
        check(&name, &certificates.put_into(&text(&name)));
    }
}

#[test]
fn options_to_switch_on_pass_check_too() {
    if !has("openssl") {
        return;
    }
    let certificates = Certificates::new();
    for (name, inputs, outputs) in [("conf/penstock.toml", 3, 2), ("conf/quickstart.toml", 3, 1)] {
        let switched = certificates.put_into(&with_options(&text(name)));
        check(name, &switched);
        let plan = config::plan(&config::Loaded::of_text(&switched).expect("good")).expect("good");
        assert_eq!((plan.inputs.len(), plan.outputs.len()), (inputs, outputs), "{name}");
    }
}

#[test]
fn metrics_are_for_this_host_alone() {
    for name in configurations() {
        let loaded = config::Loaded::of_text(&text(&name)).expect("it is read");
        let metrics = loaded.files[0].1.metrics.as_ref().map(|metrics| metrics.as_ref().listen.ip());
        assert!(metrics.is_none_or(|address| address.is_loopback()), "{name}");
    }
}

/// Sends each text as a datagram, in this order.
fn send_datagrams(address: SocketAddr, texts: &[&str]) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for text in texts {
        socket.send_to(text.as_bytes(), address).expect("sent");
    }
}

fn send_stream(address: SocketAddr, bytes: &[u8]) {
    TcpStream::connect(address).and_then(|mut stream| stream.write_all(bytes)).expect("sent");
}

/// The configuration with ports that are free, on loopback.
fn on_free_ports(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("listen = \"").and_then(|rest| rest.rsplit_once(':')) {
        Some((address, _)) if !address.starts_with('/') => "listen = \"127.0.0.1:0\"".to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_quickstart_needs_loopback_and_one_folder() {
    let quickstart = text("conf/quickstart.toml");
    let plan = config::plan(&config::Loaded::of_text(&quickstart).expect("good")).expect("good");
    let metrics = plan.metrics.expect("it has metrics");
    let addresses: Vec<_> = plan.inputs.iter().map(|input| input.address.to_string()).collect();
    assert_eq!((addresses, metrics.to_string().as_str()), (vec!["127.0.0.1:5514".to_owned(); 2], "127.0.0.1:9514"));

    let server = Server::start_with(&on_free_ports(&quickstart), |command| {
        let folder = Path::new(command.get_args().last().expect("the configuration")).parent().expect("a folder").to_owned();
        command.current_dir(folder);
    });
    send_datagrams(server.address("udp"), &["<13>Feb  5 17:32:18 10.0.0.99 hello: by UDP", "<14>user logged in"]);
    send_stream(server.address("tcp"), b"<165>1 2003-10-11T22:14:15.003Z web1 ../../etc - - - by TCP\n");
    assert!(server.lines("logs/10.0.0.99/hello.log", 1)[0].ends_with("by UDP"));
    assert!(server.lines("logs/127.0.0.1/unknown.log", 1)[0].ends_with("user logged in"));
    wait_until("three files", || server.files("logs").len() == 3);
    assert!(server.files("logs").into_keys().all(|name| !name.contains("/.")), "nothing leads out or hides");
    server.stop();
}

#[test]
fn the_metrics_please_promtool() {
    if !has("promtool") {
        return;
    }
    let server = Server::start(&on_free_ports(&text("conf/penstock.toml")).replace("/var/log/penstock", "{dir}/logs"));
    send_datagrams(server.address("udp"), &["<13>Feb  5 17:32:18 10.0.0.99 hello: by UDP"]);
    server.lines("logs/10.0.0.99/hello.log", 1);
    let answer = server.metrics();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    promtool.stdin.take().expect("piped").write_all(body.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}

/// The bytes of CPython's SysLogHandler: no time, no host, a NUL at the end.
#[test]
fn python_services_go_to_files_by_host_and_program_as_in_rsyslog() {
    let config = on_free_ports(&text("conf/examples/python-services.toml")).replace("/var/log/remote", "{dir}/remote");
    let server = Server::start(&config.replace("192.0.2.10", "127.0.0.1"));
    send_datagrams(
        server.address("udp"),
        &[
            "<14>python-app-web[4711]: INFO user logged in\0",
            "<14>Sep 22 10:11:56 web7 my-python-app: INFO of another host\n",
            "<38>Sep 22 10:11:56 web7 sshd[12]: not Python\n",
            "<14>user logged in\0",
        ],
    );
    let stream =
        b"<14>python-app-api: one\0<11>python-app-api: boom\nTraceback (most recent call last):\n  File \"x\"\nKeyError: 'y'\0";
    send_stream(server.address("tcp"), stream);
    assert!(server.lines("remote/web1/python-app-web.log", 1)[0].ends_with("user logged in"));
    assert!(server.lines("remote/web7/my-python-app.log", 1)[0].ends_with("of another host"));
    let api = server.lines("remote/web1/python-app-api.log", 2);
    assert!(api[1].contains("boom#012Traceback (most recent call last):#012") && api[1].ends_with("KeyError: 'y'"), "{api:?}");
    assert!(server.lines("remote/web7/syslog.log", 1)[0].contains("sshd[12]: not Python"));
    assert!(server.lines("remote/web1/syslog.log", 1)[0].ends_with("user logged in"));
    assert_eq!(server.files("remote").len(), 5, "and what a final route took went nowhere else");
    server.stop();
}

#[test]
fn the_example_of_all_handlers_takes_records_and_requests() {
    if !has("python3") {
        return;
    }
    let example = on_free_ports(&text("conf/examples/python-all-handlers.toml")).replace("/var/log/penstock", "{dir}/logs");
    let server = Server::start(&example);
    let port = |input| server.address(input).port();
    let program = format!(
        "import logging, logging.handlers as h\n\
         log = logging.getLogger('shop')\n\
         for one in h.SocketHandler('127.0.0.1', {}), h.DatagramHandler('127.0.0.1', {}), h.HTTPHandler('127.0.0.1:{}', '/logs', 'POST'):\n\
         \x20 log.addHandler(one)\n\
         log.error('failed: %s', 'x', extra={{'order': 7}})\n",
        port("python"),
        port("python-datagram"),
        port("http")
    );
    succeeds("python3", &["-c", &program], server.folder.path());
    let lines = server.lines("logs/shop.json", 3);
    assert!(lines.iter().all(|line| line.contains("\"message\":\"failed: x\"") && line.contains("\"order\":")), "{lines:?}");
    assert_eq!(server.files("logs/failures").values().map(|text| text.lines().count()).sum::<usize>(), 3);
    server.stop();
}

#[test]
fn the_format_that_the_python_example_recommends_names_the_program() {
    if !has("python3") {
        return;
    }
    let example = text("conf/examples/python-services.toml");
    let format = example.lines().find_map(|line| line.split_once("logging.Formatter(\"")).expect("it says which");
    let format = format.1.strip_suffix("\"))").expect("to the end of the line");
    let server = Server::start(&on_free_ports(&example).replace("/var/log/remote", "{dir}/remote"));
    for (input, kind) in [("udp", "SOCK_DGRAM"), ("tcp", "SOCK_STREAM")] {
        let address = server.address(input);
        let program = format!(
            "import logging, logging.handlers as h, socket\n\
             handler = h.SysLogHandler(('{}', {}), socktype=socket.{kind})\n\
             handler.setFormatter(logging.Formatter('{format}'))\n\
             log = logging.getLogger(); log.addHandler(handler)\n\
             try:\n  1 / 0\n\
             except ZeroDivisionError:\n  log.exception('by {input}')\n",
            address.ip(),
            address.port()
        );
        succeeds("python3", &["-c", &program], server.folder.path());
    }
    let mut lines = server.lines("remote/127.0.0.1/python-app-web.log", 2);
    lines.sort();
    for (line, input) in lines.iter().zip(["tcp", "udp"]) {
        assert!(line.contains("]: ERROR by ") && line.ends_with("ZeroDivisionError: division by zero"), "by {input}: {line}");
    }
    server.stop();
}

#[test]
fn the_classic_files_are_chosen_by_selector() {
    let config =
        on_free_ports(&text("conf/examples/classic-var-log.toml")).replace("/run/systemd/journal/syslog", "{dir}/socket");
    let server = Server::start(&config.replace("/var/log/", "{dir}/log/"));
    std::fs::create_dir(server.path("log")).ok();
    let facilities =
        [("kern", 0), ("user", 1), ("mail", 2), ("daemon", 3), ("auth", 4), ("cron", 9), ("authpriv", 10), ("local7", 23)];
    let texts: Vec<_> =
        facilities.iter().map(|(name, number)| format!("<{}>Sep 22 10:11:56 web1 program: {name}", number * 8 + 6)).collect();
    send_datagrams(server.address("udp"), &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let of = |file: &str, count| -> Vec<String> {
        let lines = server.lines(&format!("log/{file}"), count);
        lines.iter().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect()
    };
    assert_eq!(of("syslog", 6), ["kern", "user", "mail", "daemon", "cron", "local7"]);
    assert_eq!(of("auth.log", 2), ["auth", "authpriv"]);
    for file in ["cron", "kern", "mail", "user"] {
        assert_eq!(of(&format!("{file}.log"), 1), [file]);
    }
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    socket.send_to(b"<30>Sep 22 10:11:56 systemd[1]: from the journal", server.path("socket")).expect("sent");
    assert!(server.lines("log/syslog", 7)[6].ends_with("systemd[1]: from the journal"));
    assert_eq!(server.files("log").len(), 6);
    server.stop();
}

/// Both TLS examples at once: the relay's first upstream is away, the second is a server that asks for certificates.
#[test]
fn the_relay_fails_over_to_a_server_that_asks_for_certificates() {
    if !has("openssl") {
        return;
    }
    let certificates = Certificates::new();
    let upstream = certificates.put_into(&text("conf/examples/tls-client-certificates.toml"));
    let upstream = Server::start(&on_free_ports(&upstream).replace("/var/log/penstock", "{dir}/logs"));
    let (away, port) = (free_port(), upstream.address("tls").port());
    let relay = |text: &str| {
        let text = text.replace("logs-a.example.com:6514", &format!("127.0.0.1:{away}"));
        on_free_ports(&text.replace("logs-b.example.com:6514", &format!("127.0.0.1:{port}")))
            .replace("/var/log/penstock", "{dir}/logs")
            .replace("/var/lib/penstock", "{dir}/state")
    };
    let example = text("conf/examples/relay-failover.toml");
    let server = Server::start(&relay(&certificates.put_into(&example)));
    send_datagrams(server.address("udp"), &["<13>Feb  5 17:32:18 web1 hello: through the relay"]);
    assert!(server.lines("logs/web1.log", 1)[0].ends_with("through the relay"));
    wait_until("one file at the upstream", || upstream.files("logs").len() == 1);
    let (name, content) = upstream.files("logs").into_iter().next().expect("there is one");
    assert!(name.starts_with("web1/") && name.ends_with("-02-05.log"), "{name}");
    wait_until("a line at the upstream", || {
        content.ends_with("through the relay\n") || upstream.files("logs")[&name].ends_with("through the relay\n")
    });
    server.stop();

    // Of the same CA, and not one of the peers: named with the reason, and its copy is written all the same.
    let example = example
        .replace("tls/relay.pem", "tls/stranger.pem")
        .replace("tls/relay.key", "tls/stranger.key")
        .replace("\"30s\"", "\"1ms\"");
    let server = Server::start(&relay(&certificates.put_into(&example)));
    send_datagrams(server.address("udp"), &["<13>Feb  5 17:32:18 web2 hello: from a stranger"]);
    server.lines("logs/web2.log", 1);
    let said = upstream.wait_for_log("was refused: ");
    assert!(said.contains("stranger") && said.contains("*.example.com"), "{said}");
    server.stop();
    upstream.stop();
}

/// By TLS and compressed, to a server that is not there at first.
#[test]
fn the_lossless_relay_keeps_what_the_central_server_gets_later() {
    if !has("openssl") {
        return;
    }
    let certificates = Certificates::new();
    let (port, example) = (free_port(), text("conf/examples/relay-lossless.toml"));
    let relay = on_free_ports(&certificates.put_into(&example).replace("logs.example.com:2514", &format!("127.0.0.1:{port}")));
    let mut server = Server::start(&relay.replace("/var/lib/penstock", "{dir}/state"));
    send_datagrams(server.address("udp"), &["<13>Feb  5 17:32:18 web1 hello: through the relay"]);
    server.wait_for_log("output `central`: delivery failed");
    server.signal("KILL");
    server.wait();

    let central = format!(
        "[[input.relp]]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"/etc/penstock/tls/server.pem\"\n\
         key = \"/etc/penstock/tls/server.key\"\n[[output.file]]\nname = \"file\"\npath = \"{{dir}}/out\"\n[[route]]\nto = [\"file\"]\n"
    );
    let central = Server::start(&certificates.put_into(&central));
    let again = Server::start(&relay.replace("/var/lib/penstock", &server.path("state").display().to_string()));
    assert!(central.lines("out", 1)[0].ends_with("web1 hello: through the relay"));
    again.wait_for_log(", compressed");
    again.stop();
}

/// The value of each line `key=value` of a unit.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

const SOCKETS: [&str; 3] = ["tcp", "tls", "udp"];

/// The units with the program under test in the place of the installed one.
fn units() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let service = text("systemd/penstock.service");
    assert_eq!(values(&service, "ExecStart"), ["/usr/sbin/penstock run --config /etc/penstock/penstock.toml --keep-descriptors"]);
    std::fs::write(folder.path().join("penstock.service"), service.replace("/usr/sbin/penstock", PENSTOCK)).expect("written");
    for kind in SOCKETS {
        let name = format!("penstock-{kind}.socket");
        std::fs::write(folder.path().join(&name), text(&format!("systemd/{name}"))).expect("written");
    }
    folder
}

#[test]
fn the_units_are_clean() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = units();
    // The manual page is where the package puts it, not here.
    let files = ["./penstock.service", "./penstock-tcp.socket", "./penstock-tls.socket", "./penstock-udp.socket"];
    assert_eq!(succeeds("systemd-analyze", &[&["verify", "--man=no"][..], &files].concat(), folder.path()), "");
}

#[test]
fn the_service_is_exposed_as_little_as_it_can_be() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = units();
    succeeds(
        "systemd-analyze",
        &["security", "--offline=yes", "--threshold=20", "--no-pager", "./penstock.service"],
        folder.path(),
    );
}

/// Every group of system calls, with the names and groups in it.
fn system_calls() -> Vec<(String, Vec<String>)> {
    let listed = run("systemd-analyze", &["syscall-filter", "--no-pager"], Path::new("/"));
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        match (line.trim(), groups.last_mut()) {
            ("", _) => {}
            (name, _) if line.starts_with('@') => groups.push((name.to_owned(), Vec::new())),
            (name, Some((_, members))) if !name.starts_with('#') => members.push(name.to_owned()),
            _ => {}
        }
    }
    groups
}

fn expanded(name: &str, groups: &[(String, Vec<String>)], into: &mut BTreeSet<String>) {
    match groups.iter().find(|(group, _)| group == name) {
        Some((_, members)) => members.iter().for_each(|member| expanded(member, groups, into)),
        None => drop(into.insert(name.to_owned())),
    }
}

/// What a test run would not meet: files of a group, sockets with an owner, folders.
#[test]
fn the_service_may_call_what_the_server_calls_and_no_more() {
    if !has("systemd-analyze") {
        return;
    }
    let groups = system_calls();
    let mut allowed = BTreeSet::new();
    for filter in values(&text("systemd/penstock.service"), "SystemCallFilter") {
        let mut named = BTreeSet::new();
        filter.trim_start_matches('~').split(' ').for_each(|name| expanded(name, &groups, &mut named));
        if filter.starts_with('~') {
            allowed.retain(|name| !named.contains(name));
        } else {
            allowed.append(&mut named);
        }
    }
    // Where it is set, openat2 is "not implemented", whatever the filter allows.
    assert!(values(&text("systemd/penstock.service"), "RestrictSUIDSGID").is_empty());
    let needed = [
        "accept4",
        "bind",
        "chown",
        "connect",
        "epoll_wait",
        "eventfd2",
        "fchmod",
        "fchown",
        "fdatasync",
        "getrandom",
        "listen",
        "mkdirat",
        "openat",
        "openat2",
        "prlimit64",
        "recvfrom",
        "recvmmsg",
        "sched_getaffinity",
        "sendmmsg",
        "sendto",
        "setsockopt",
        "statx",
        "unlink",
        "writev",
    ];
    for name in needed {
        assert!(allowed.contains(name), "{name} is not allowed");
    }
    for name in ["bpf", "capset", "chroot", "mount", "open_by_handle_at", "perf_event_open", "ptrace", "reboot", "setuid"] {
        assert!(!allowed.contains(name), "{name} is allowed");
    }
}

#[test]
fn the_socket_units_are_those_of_the_shipped_inputs() {
    if !has("openssl") {
        return;
    }
    let certificates = Certificates::new();
    let switched = certificates.put_into(&with_options(&text("conf/penstock.toml")));
    let plan = config::plan(&config::Loaded::of_text(&switched).expect("good")).expect("good");
    assert_eq!(plan.inputs.len(), SOCKETS.len());
    for input in plan.inputs {
        let unit = text(&format!("systemd/penstock-{}.socket", input.kind));
        assert_eq!(values(&unit, "FileDescriptorName"), [&*input.name]);
        assert_eq!((values(&unit, "Service"), values(&unit, "BindIPv6Only")), (vec!["penstock.service"], vec!["both"]));
        let listen = if input.kind == "udp" { "ListenDatagram" } else { "ListenStream" };
        assert_eq!(format!("[::]:{}", values(&unit, listen)[0]), input.address.to_string());
    }
}

/// User and folders come about, with the owners that the unit wants: otherwise each start would change them.
#[test]
fn user_and_folders_are_made() {
    if !has("root") || !has("systemd-sysusers") || !has("systemd-tmpfiles") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("etc")).expect("a folder");
    let into = format!("--root={}", root.path().display());
    for (program, option, file) in [("systemd-sysusers", "--no-pager", "sysusers"), ("systemd-tmpfiles", "--create", "tmpfiles")]
    {
        let path = shipped(&format!("systemd/penstock.{file}.conf")).display().to_string();
        succeeds(program, &[&into, option, &path], root.path());
    }
    let users = std::fs::read_to_string(root.path().join("etc/passwd")).expect("it was made");
    let user = users.lines().find(|line| line.starts_with("penstock:")).expect("the user is there");
    assert!(user.ends_with(":/var/lib/penstock:/usr/sbin/nologin"), "{user}");
    let id: u32 = user.split(':').nth(2).and_then(|id| id.parse().ok()).expect("a number");
    for (folder, mode, owner) in [
        ("etc/penstock", 0o755, 0),
        ("etc/penstock/tls", 0o750, 0),
        ("var/lib/penstock", 0o700, id),
        ("var/log/penstock", 0o750, id),
    ] {
        use std::os::unix::fs::MetadataExt;
        let data = std::fs::metadata(root.path().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        assert_eq!((data.mode() & 0o7777, data.uid()), (mode, owner), "{folder}");
    }
    let service = text("systemd/penstock.service");
    assert_eq!((values(&service, "User"), values(&service, "Group")), (vec!["penstock"], vec!["penstock"]));
    assert_eq!((values(&service, "LogsDirectoryMode"), values(&service, "StateDirectoryMode")), (vec!["0750"], vec!["0700"]));
}
