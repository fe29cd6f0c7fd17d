//! `[[input.http]]` as clients see it: curl, a plain socket, and what is left after a kill.

mod common;
mod peers;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{Server, has, listen, wait_until};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use peers::certificates::Ca;
use peers::{assert_each_once, run};

const HTTP: &str = r#"
[[input.http]]
listen = "127.0.0.1:0"
"#;

const FILE: &str = r#"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{severity} {hostname} {app-name} {message}"
[[output.file]]
name = "file"
path = "{dir}/out"
format = "line"
[[route]]
to = ["file"]
"#;

fn server(options: &str) -> Server {
    Server::start(&format!("{HTTP}{options}\n{FILE}"))
}

/// What came back: the status, the head and the body.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn number(&self, key: &str) -> Option<u64> {
        serde_json::from_str::<serde_json::Value>(&self.body).expect("JSON")[key].as_u64()
    }
}

/// None: no answer came.
fn try_post(address: SocketAddr, target: &str, headers: &[&str], body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, head: head.to_lowercase(), body: body.to_owned() })
}

fn post(server: &Server, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
    try_post(server.address("http"), target, headers, body.as_ref()).expect("an answer")
}

#[test]
fn every_kind_of_body_is_taken() {
    let server = server("");
    let json = r#"{"msg":"M","level":"error","host":"h","app":"a"}"#;
    let syslog = "<11>1 - h a - - - M\n<11>1 - h a - - - N\n";
    for (target, media, body) in [
        ("/logs", "application/json", json.to_owned()),
        ("/logs", "application/json", format!("[{json},{json}]")),
        ("/logs", "application/x-ndjson", format!("{json}\n{json}\n")),
        ("/logs", "application/syslog", syslog.to_owned()),
        ("/logs", "application/syslog", "19 <11>1 - h a - - - M19 <11>1 - h a - - - N".to_owned()),
        ("/logs?format=syslog", "text/plain", syslog.to_owned()),
        ("/logs", "application/x-www-form-urlencoded", "msg=%25s&args=%28%27M%27%2C%29&levelno=40&name=a".to_owned()),
    ] {
        let answer = post(&server, target, &[&format!("Content-Type: {media}")], &body);
        let count = body.matches(['M', 'N']).count() as u64;
        assert_eq!((answer.code, answer.number("accepted")), (200, Some(count)), "{media}: {body}: {}", answer.body);
        // It was answered, so it is there.
        let lines = server.lines("out", count as usize);
        let host = if media.ends_with("urlencoded") { "127.0.0.1" } else { "h" };
        assert!(lines.iter().all(|line| line.starts_with(&format!("err {host} a "))), "{media}: {lines:?}");
        std::fs::write(server.path("out"), "").expect("emptied");
    }
    let answer = post(&server, "/logs", &["Content-Type: text/plain"], "one\ntwo\n");
    assert_eq!(answer.number("accepted"), Some(2));
    assert_eq!(server.lines("out", 2), ["notice 127.0.0.1 - one", "notice 127.0.0.1 - two"]);
    server.stop();
}

#[test]
fn bodies_may_be_packed() {
    let server = server("max-body = \"1MiB\"\n");
    let body = b"{\"msg\":\"packed\"}\n".repeat(100);
    let written = |result: std::io::Result<Vec<u8>>| result.expect("memory is no obstacle");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
    for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut bare] {
        encoder.write_all(&body).expect("memory is no obstacle");
    }
    let gzip = written(gzip.finish());
    let packed = [
        ("gzip", [&gzip[..], &gzip].concat(), 200),
        ("deflate", written(zlib.finish()), 100),
        ("deflate", written(bare.finish()), 100),
        ("zstd", zstd::encode_all(&body[..], 3).expect("packed"), 100),
    ];
    for (encoding, bytes, count) in &packed {
        let answer = post(&server, "/logs", &[&format!("Content-Encoding: {encoding}")], bytes);
        assert_eq!((answer.code, answer.number("accepted")), (200, Some(*count)), "{encoding}: {}", answer.body);
        let half = post(&server, "/logs", &[&format!("Content-Encoding: {encoding}")], &bytes[..bytes.len() / 3]);
        assert_eq!(half.code, 400, "{encoding}: {}", half.body);
    }
    server.lines("out", 500);
    // A megabyte of blanks is a kilobyte when it is packed.
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 3).expect("packed");
    let answer = post(&server, "/logs", &["Content-Encoding: zstd"], &bomb);
    assert_eq!((answer.code, bomb.len() < 64 << 10), (413, true), "{}", answer.body);
    let answer = post(&server, "/logs", &["Content-Encoding: br"], "x");
    assert!(answer.code == 415 && answer.head.contains("accept-encoding: gzip, deflate, zstd"), "{}", answer.head);
    let answer = post(&server, "/logs", &[], vec![b' '; (1 << 20) + 1]);
    assert_eq!(answer.code, 413, "{}", answer.body);
    assert_eq!(server.metric("penstock_requests_total{input=\"http\",kind=\"http\",answer=\"too-large\"}"), 2);
    server.stop();
}

#[test]
fn a_bad_record_leaves_nothing_half_accepted() {
    let server = server("");
    let body = "{\"msg\":\"1\"}\n{\"msg\":\"2\"}\n{\"msg\" 3}\n{\"msg\":\"4\"}\n";
    let answer = post(&server, "/logs", &[], body);
    let place = ["record", "line", "column"].map(|key| answer.number(key));
    assert_eq!((answer.code, place), (400, [Some(3), Some(3), Some(8)]), "{}", answer.body);
    assert_eq!(server.read("out"), "");
    let answer = post(&server, "/logs?partial=true", &[], body);
    assert_eq!((answer.code, answer.number("accepted"), answer.number("refused")), (200, Some(3), Some(1)), "{}", answer.body);
    let texts = ["1", "2", "4"].map(|text| format!("notice 127.0.0.1 - {text}"));
    assert_eq!(server.lines("out", 3), texts);
    assert_eq!(post(&server, "/other", &[], body).code, 404);
    server.stop();
}

#[test]
fn only_who_is_known_may_send() {
    if !has("openssl") || !has("curl") {
        return;
    }
    let ca = Ca::new("HTTP CA");
    ca.server("server");
    ca.client("client");
    let secrets = ca.path("tokens");
    std::fs::write(&secrets, "# of the shop\nt0ken\n").expect("written");
    std::fs::write(ca.path("passwords"), "app:pass:word\n").expect("written");
    let file = |name: &str| ca.path(name).display().to_string();
    let tls = format!("certificate = \"{}\"\nkey = \"{}\"\n", file("server.pem"), file("server.key"));
    let who = format!("tokens = \"{}\"\npasswords = \"{}\"\n", file("tokens"), file("passwords"));
    let plain = Server::start(&format!("{HTTP}{who}plaintext-credentials = true\n{FILE}"));
    for (header, code) in [
        ("Authorization: Bearer t0ken", 200),
        ("Authorization: Basic YXBwOnBhc3M6d29yZA==", 200),
        ("Authorization: Bearer other", 401),
        ("Authorization: Basic YXBwOnBhc3M=", 401),
        ("X: y", 401),
    ] {
        let answer = post(&plain, "/logs", &[header], "{\"msg\":\"x\"}");
        assert_eq!(answer.code, code, "{header}");
        if code == 401 {
            let asks = answer.head.contains("www-authenticate: bearer") && answer.head.contains("www-authenticate: basic");
            assert!(asks, "{}", answer.head);
        }
    }
    plain.lines("out", 2);
    // A large body is read, so that its sender gets to read the answer.
    assert_eq!(post(&plain, "/logs", &[], vec![b'x'; 8 << 20]).code, 401);
    plain.stop();

    let config = format!("{HTTP}{who}{FILE}").replace("{dir}", &file(""));
    std::fs::write(ca.path("plain.toml"), config).expect("written");
    let output = Command::new(common::PENSTOCK).args(["check", "--config"]).arg(ca.path("plain.toml")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && said.contains("plain.toml:4:10: this would be sent in plain text"), "{said}");

    let server = Server::start(&format!("{HTTP}{tls}{who}client-ca = \"{}\"\n{FILE}", file("ca.pem")));
    let url = format!("https://localhost:{}/logs", server.address("http").port());
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-w", "%{http_version} %{http_code}", "-o", "/dev/null", "--cacert", &file("ca.pem")]).args(more);
        command.args(["-d", "{\"msg\":\"x\"}", &url]);
        String::from_utf8_lossy(&command.output().expect("curl runs").stdout).into_owned()
    };
    let certificate = ["--cert", &file("client.pem"), "--key", &file("client.key")];
    let token = ["-H", "Authorization: Bearer t0ken"];
    assert_eq!(curl(&[&certificate[..], &token].concat()), "2 200");
    assert_eq!(curl(&[&certificate[..], &token, &["--http1.1"]].concat()), "1.1 200");
    assert_eq!(curl(&[&certificate[..], &["-u", "app:pass:word"]].concat()), "2 200");
    assert_eq!(curl(&[&certificate[..], &["-u", "app:wrong"]].concat()), "2 401");
    assert_eq!(curl(&token), "0 000", "without a certificate nobody gets so far");
    server.lines("out", 3);
    server.wait_for_log("no token or password that is known");
    server.wait_for_log("it showed no certificate");
    server.stop();
}

#[test]
fn keys_of_the_configuration_are_fields() {
    let server = server("[input.http.fields]\nmessage = [\"body.text\", \"words\"]\napp-name = \"svc\"\nseverity = \"prio\"\n");
    let body = r#"[{"body":{"text":"one"},"svc":"a","prio":"crit","message":"other"},{"words":"two","svc":"b","level":"info"}]"#;
    assert_eq!(post(&server, "/logs", &[], body).code, 200);
    assert_eq!(server.lines("out", 2), ["crit 127.0.0.1 a one", "info 127.0.0.1 b two"]);
    server.stop();
}

#[test]
fn a_request_that_is_repeated_arrives_once() {
    let server = server("");
    let key = "Idempotency-Key: 7c4a8d09";
    for _ in 0..3 {
        let answer = post(&server, "/logs", &[key], "{\"msg\":\"once\"}");
        assert_eq!((answer.code, answer.number("accepted")), (200, Some(1)));
    }
    assert_eq!(post(&server, "/logs", &[key], "{\"msg\":\"another\"}").code, 422);
    // What was refused has used no key.
    let other = "Idempotency-Key: other";
    assert_eq!(post(&server, "/logs", &[other], "{").code, 400);
    assert_eq!(post(&server, "/logs", &[other], "{\"msg\":\"good\"}").code, 200);
    let address = server.address("http");
    let racing: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || try_post(address, "/logs", &["Idempotency-Key: race"], b"{\"msg\":\"race\"}")))
        .collect();
    let codes: Vec<_> = racing.into_iter().map(|thread| thread.join().expect("no panic").expect("an answer").code).collect();
    assert!(codes.contains(&200) && codes.iter().all(|code| matches!(code, 200 | 409)), "{codes:?}");
    assert_eq!(server.lines("out", 3).len(), 3);
    // A kill makes no difference to what was answered.
    let config = std::fs::read_to_string(server.path("penstock.toml")).expect("it was read");
    let mut server = server;
    server.signal("KILL");
    server.wait();
    let next = Server::start(&config);
    assert_eq!(post(&next, "/logs", &[key], "{\"msg\":\"once\"}").number("accepted"), Some(1));
    assert_eq!(server.lines("out", 3).len(), 3);
    next.stop();
}

/// An output that blocks, and whose destination takes nothing.
const BLOCKED: &str = r#"
[metrics]
listen = "127.0.0.1:0"
[[output.forward]]
name = "up"
to = ["tcp://127.0.0.1:{port}"]
framing = "newline"
format = "raw"
queue = { size = "1MiB", when-full = "block" }
[[output.file]]
name = "file"
path = "{dir}/out"
format = "raw"
[[route]]
where = 'app-name == "up"'
to = ["up"]
final = true
[[route]]
to = ["file"]
"#;

#[test]
fn a_full_queue_is_said_before_anything_is_taken() {
    let stuck = listen(0);
    let port = stuck.local_addr().expect("an address").port();
    let config = format!(
        "[server]\nthreads = 1\n{HTTP}answer-timeout = \"200ms\"\n[[input.http]]\nname = \"other\"\nlisten = \"127.0.0.1:0\"\n{}",
        BLOCKED.replace("{port}", &port.to_string())
    );
    let server = Server::start(&config);
    let body = |batch: usize| -> String {
        let fill = "x".repeat(1000);
        (0..200).map(|i| format!("{{\"app\":\"up\",\"msg\":\"{batch}-{i} {fill}\"}}\n")).collect()
    };
    let mut accepted = 0;
    let full = loop {
        let key = format!("Idempotency-Key: {accepted}");
        let answer = post(&server, "/logs", &[&key], body(accepted));
        match answer.code {
            // Taken, and not safe.
            200 | 503 => accepted += 1,
            _ => break answer,
        }
        assert!(accepted < 100_000, "it never fills");
    };
    assert!(full.code == 429 && full.head.contains("retry-after: "), "{}", full.head);
    let again = post(&server, "/logs", &["Idempotency-Key: 0"], body(0));
    assert!(matches!(again.code, 200 | 409 | 429), "{}", again.code);
    // Whose messages go elsewhere is not concerned.
    let other = try_post(server.address("other"), "/logs", &[], b"{\"app\":\"x\",\"msg\":\"free\"}").expect("an answer");
    assert_eq!(other.code, 200, "{}", other.body);
    let reader = std::thread::spawn(move || messages_until(stuck, accepted * 200));
    wait_until("there is room again", || post(&server, "/logs", &[], "{\"app\":\"up\",\"msg\":\"last\"}").code != 429);
    let expected = (0..accepted).flat_map(|batch| (0..200).map(move |i| format!("{batch}-{i}")));
    assert_eq!(reader.join().expect("no panic"), expected.collect(), "what was taken arrives");
    server.stop();
}

/// What was answered too late is known all the same, to the next process too.
#[test]
fn what_became_safe_after_its_answer_is_not_taken_again() {
    let stuck = listen(0);
    let port = stuck.local_addr().expect("an address").port();
    let options = "answer-timeout = \"1ms\"\n";
    let config = format!("{HTTP}{options}{}", BLOCKED.replace("{port}", &port.to_string()));
    let server = Server::start(&config);
    let key = "Idempotency-Key: late";
    let body = "{\"app\":\"up\",\"msg\":\"once\"}";
    let first = post(&server, "/logs", &[key], body).code;
    assert!(matches!(first, 200 | 503), "{first}");
    let reader = std::thread::spawn(move || {
        let (stream, _) = stuck.accept().expect("it comes");
        BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.contains("once")).count()
    });
    let mut server = server;
    let config = std::fs::read_to_string(server.path("penstock.toml")).expect("it was read");
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(reader.join().expect("no panic"), 1);
    let next = Server::start(&config);
    assert_eq!(post(&next, "/logs", &[key], body).code, 200, "it is known");
    next.stop();
}

/// Reads from whoever connects until so many different messages have come: a connection that stood still is given up, and what
/// had not arrived comes again.
fn messages_until(listener: TcpListener, count: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let (stream, _) = listener.accept().expect("it comes");
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The last one may have been cut.
            if line.ends_with("xxx") && line.len() > 1000 {
                seen.extend(line.split(' ').nth_back(1).map(str::to_owned));
            }
            if seen.len() == count {
                break;
            }
        }
    }
    seen
}

/// Every record that was answered with 200 is there, however the server ended; with its key it is there once where the server
/// lives on.
#[test]
fn what_was_answered_survives_a_kill() {
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let state = common::TempDir::new().expect("a folder");
    let out = state.path().join("out");
    let file = FILE.replace("{dir}/out", &out.display().to_string());
    for round in 0..5_usize {
        let mut server = Server::start(&format!("{HTTP}{file}"));
        let address = server.address("http");
        let over = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4_usize)
            .map(|sender| {
                let (answered, over) = (answered.clone(), over.clone());
                std::thread::spawn(move || {
                    let mut batch = 0;
                    while !over.load(Ordering::Relaxed) {
                        let names: Vec<_> = (0..20).map(|i| format!("{round}-{sender}-{batch}-{i}")).collect();
                        let body: String = names.iter().map(|name| format!("{{\"msg\":\"{name}\"}}\n")).collect();
                        batch += 1;
                        match try_post(address, "/logs", &[], body.as_bytes()) {
                            Some(answer) if answer.code == 200 => answered.lock().expect("no panic").extend(names),
                            _ => return,
                        }
                    }
                })
            })
            .collect();
        let enough = (round + 1) * 500;
        wait_until("some are answered", || answered.lock().expect("no panic").len() >= enough);
        server.signal("KILL");
        server.wait();
        over.store(true, Ordering::Relaxed);
        senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    }
    let text = std::fs::read_to_string(&out).expect("written");
    let written: BTreeSet<_> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let answered = answered.lock().expect("no panic");
    let missing: Vec<_> = answered.iter().filter(|name| !written.contains(name.as_str())).collect();
    assert!(missing.is_empty() && answered.len() >= 2500, "of {} missing: {missing:?}", answered.len());
}

/// A stop answers what it has taken, and takes nothing more.
#[test]
fn a_stop_loses_nothing_that_was_answered() {
    let server = server("");
    let address = server.address("http");
    let answered = Arc::new(Mutex::new(Vec::new()));
    let sender = {
        let answered = answered.clone();
        std::thread::spawn(move || {
            for i in 0.. {
                let key = format!("Idempotency-Key: {i}");
                match try_post(address, "/logs", &[&key], format!("{{\"msg\":\"{i}\"}}").as_bytes()) {
                    Some(answer) if answer.code == 200 => answered.lock().expect("no panic").push(i.to_string()),
                    _ => return,
                }
            }
        })
    };
    wait_until("some are answered", || answered.lock().expect("no panic").len() >= 200);
    let folder = server.path("out");
    let mut server = server;
    server.signal("TERM");
    assert!(server.wait().success());
    sender.join().expect("no panic");
    let text = std::fs::read_to_string(folder).expect("written");
    let written: Vec<_> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let answered = answered.lock().expect("no panic");
    // One may have been written whose answer came too late.
    let kept = written.len().min(answered.len());
    assert_each_once(&written[..kept], &answered);
    assert!(written.len() <= answered.len() + 1);
}

/// What a small body claims to be in memory is counted, too.
#[test]
fn a_body_of_very_many_records_is_refused_in_time() {
    let server = server("max-body = \"1MiB\"\n");
    let answer = post(&server, "/logs", &[], "{}".repeat(500_000));
    assert_eq!(answer.code, 413, "{}", answer.body);
    let answer = post(&server, "/logs?partial=true", &[], format!("[{}1]", "1,".repeat(500_000)));
    assert_eq!((answer.code, answer.number("refused")), (200, Some(500_001)), "{}", &answer.body[..answer.body.len().min(300)]);
    let answer = post(&server, "/logs?partial=true&format=json", &[], "x\n".repeat(500_000));
    assert_eq!((answer.code, answer.number("refused")), (200, Some(500_000)));
    let answer = post(&server, "/logs", &["Content-Type: text/plain"], "x\n".repeat(500_000));
    assert_eq!(answer.code, 413, "{}", answer.body);
    assert_eq!(server.read("out"), "");
    server.stop();
}

/// A client that has sent everything and does not wait for the answer.
#[test]
fn what_has_begun_is_done_though_the_client_has_gone() {
    let server = server("");
    let body: String = (0..20_000).map(|i| format!("{{\"msg\":\"{i}\"}}\n")).collect();
    let mut stream = TcpStream::connect(server.address("http")).expect("connected");
    let key = "Idempotency-Key: gone";
    let head = format!("POST /logs HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("sent");
    wait_until("it has begun", || !server.read("out").is_empty());
    drop(stream);
    wait_until("the key is known", || {
        let again = post(&server, "/logs", &[key], &body);
        assert!(matches!(again.code, 200 | 409), "{}", again.body);
        again.code == 200
    });
    assert_eq!(server.lines("out", 20_000).len(), 20_000);
    server.stop();
}

/// Headers without an end, a body that trickles, and a connection that says nothing do not stay.
#[test]
fn slow_clients_do_not_stay() {
    let server = server("body-timeout = \"300ms\"\nidle-timeout = \"300ms\"\n");
    let mut silent = TcpStream::connect(server.address("http")).expect("connected");
    assert_eq!(silent.read(&mut [0]).expect("closed in order"), 0);
    let mut trickling = TcpStream::connect(server.address("http")).expect("connected");
    trickling.write_all(b"POST /logs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").expect("sent");
    let mut answer = Vec::new();
    trickling.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    let mut long = TcpStream::connect(server.address("http")).expect("connected");
    let head = format!("POST /logs HTTP/1.1\r\nHost: x\r\n{}", "X: y\r\n".repeat(20_000));
    let _ = long.write_all(head.as_bytes());
    let _ = long.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.read("out"), "");
    server.stop();
}

/// curl's `-d` and a browser's form are no obstacle, and HTTP/2 without TLS works for those who ask for it.
#[test]
fn curl_sends_as_it_likes() {
    if !has("curl") {
        return;
    }
    let server = server("");
    let url = format!("http://{}/logs", server.address("http"));
    let curl =
        |arguments: &[&str]| run(Command::new("curl").args(["-s", "-w", "%{http_version}"]).args(arguments).arg(&url), b"");
    assert_eq!(curl(&["-d", "{\"msg\":\"json\"}"]), "{\"accepted\":1}\n1.1");
    assert_eq!(curl(&["-d", "plain words"]), "{\"accepted\":1}\n1.1");
    assert_eq!(curl(&["--http2-prior-knowledge", "-d", "{\"msg\":\"two\"}"]), "{\"accepted\":1}\n2");
    assert_eq!(curl(&["-G", "--data-urlencode", "msg=a b&c", "-d", "levelno=30"]), "{\"accepted\":1}\n1.1");
    let lines =
        ["notice 127.0.0.1 - json", "notice 127.0.0.1 - plain words", "notice 127.0.0.1 - two", "warning 127.0.0.1 - a b&c"];
    assert_eq!(server.lines("out", 4), lines);
    server.stop();
}
