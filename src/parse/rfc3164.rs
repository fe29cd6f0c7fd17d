//! RFC 3164 as really sent: the stamp decides whether there is a header, and a host is believed only as far as it can
//! be one. Python's messages have neither and keep their whole text.

use nom::Parser;
use nom::bytes::complete::tag as literal;
use nom::combinator::opt;

use super::bsd_timestamp::{Blanks, asctime, sequence_number, timestamp};
use super::rfc5424::word;
use super::tag::{self, Tag};
use super::{Options, Parsed};
use crate::message::{Fields, Grammar, Priority, Timestamp};

/// What remains after the PRI when it is not RFC 5424.
pub(super) fn after_pri<'b>(text: &'b [u8], priority: Priority, options: &Options) -> Fields<'b> {
    match header(text.trim_ascii_start_blanks()) {
        Ok((rest, header)) => with_header(rest, header, priority, options),
        Err(_) => headerless(text, priority, options),
    }
}

/// Section 4.3.3: without a PRI it is `user.notice`; without a header besides, it is just text.
pub(super) fn without_pri<'b>(text: &'b [u8], options: &Options) -> Fields<'b> {
    match header(text) {
        Ok((rest, header)) => with_header(rest, header, Priority::DEFAULT, options),
        Err(_) => Fields::text(Priority::DEFAULT, text),
    }
}

struct Header<'b> {
    timestamp: Timestamp<'b>,
    /// Only where it stood before the stamp (Cisco).
    hostname: &'b [u8],
}

/// `[SEQUENCE ": "] [HOST ": "] ["*" / "."] TIMESTAMP`; IOS marks an unsynchronized clock with the star or dot.
fn header(input: &[u8]) -> Parsed<'_, Header<'_>> {
    let (input, _) = opt(sequence_number).parse(input)?;
    if let Ok((rest, timestamp)) = marked_timestamp(input) {
        return Ok((rest, Header { timestamp, hostname: b"" }));
    }
    let (rest, hostname) = host_and_colon(input)?;
    let (rest, _) = opt(sequence_number).parse(rest)?;
    let (rest, timestamp) = marked_timestamp(rest)?;
    Ok((rest, Header { timestamp, hostname }))
}

fn marked_timestamp(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let input = input.strip_prefix(b"*").or_else(|| input.strip_prefix(b".")).unwrap_or(input);
    timestamp(input)
}

fn host_and_colon(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (name, rest) = word(input);
    match name.strip_suffix(b":") {
        Some(name) if is_host(name) => Ok((rest.trim_ascii_start_blanks(), name)),
        _ => super::fail(),
    }
}

fn with_header<'b>(rest: &'b [u8], header: Header<'b>, priority: Priority, options: &Options) -> Fields<'b> {
    let (hostname, rest) = match header.hostname {
        b"" => hostname(rest),
        name => (name, rest),
    };
    let mut fields = Fields { grammar: Grammar::Rfc3164, timestamp: header.timestamp, hostname, ..Fields::text(priority, rest) };
    if let Some(Tag { whole, app_name, proc_id, rest }) = tag::after_header(rest) {
        fields.tag = whole;
        fields.app_name = tag::program(app_name, options.slashes);
        fields.proc_id = proc_id;
        fields.message = rest;
    }
    fields
}

/// The host, if the first word can be one and something follows it.
fn hostname(text: &[u8]) -> (&[u8], &[u8]) {
    if let Ok((rest, host)) = forwarded(text) {
        return (host, rest);
    }
    let (name, rest) = word(text);
    match rest.strip_prefix(b" ") {
        Some(after) if is_host(name) && !text.starts_with(b"last message repeated ") => (name, after),
        _ => (b"", text),
    }
}

/// AIX: `Message forwarded from HOST: `.
fn forwarded(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, _) = literal("Message forwarded from ")(input)?;
    host_and_colon(input)
}

/// Letters, digits, `.`, `_` and `-`, or an IPv6 address; never a slash.
fn is_host(name: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') || !b.is_ascii();
    let is_name = !name.is_empty() && name.len() <= 255 && name.iter().all(plain);
    is_name || (name.contains(&b':') && std::str::from_utf8(name).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()))
}

/// Section 4.3.2: the text stays whole; a tag or stamp at its beginning only names what it already says.
fn headerless<'b>(text: &'b [u8], priority: Priority, options: &Options) -> Fields<'b> {
    let mut fields = Fields { grammar: Grammar::Headerless, ..Fields::text(priority, text) };
    let mut rest = text.trim_ascii_start_blanks();
    if options.asctime
        && let Ok((after, timestamp)) = asctime(rest)
    {
        fields.timestamp = timestamp;
        rest = after;
    }
    if let Some(Tag { app_name, proc_id, .. }) = tag::without_header(rest) {
        fields.app_name = tag::program(app_name, options.slashes);
        fields.proc_id = proc_id;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::message::Civil;

    /// Host, app name, process, message.
    fn shown(raw: &str) -> [String; 4] {
        let fields = parse(raw.as_bytes(), &Options::default());
        [fields.hostname, fields.app_name, fields.proc_id, fields.message].map(|part| String::from_utf8_lossy(part).into_owned())
    }

    #[test]
    fn headers_as_really_sent() {
        for (raw, expected) in [
            ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", ["mymachine", "su", "", "'su root' failed"]),
            ("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", ["10.0.0.99", "", "", "Use the BFG!"]),
            ("<15>Jan 01 01:00:00 bzorp openvpn[2499]: PTHREAD", ["bzorp", "openvpn", "2499", "PTHREAD"]),
            ("<15> Jan 1 01:00:00 bzorp openvpn[2499]: x", ["bzorp", "openvpn", "2499", "x"]),
            ("<190>NOV 22 00:00:33 192.168.33.8-1 CMDLOGGER[165319912]: x", ["192.168.33.8-1", "CMDLOGGER", "165319912", "x"]),
            ("<190>Apr 15 2007 21:28:13: %PIX-6-302014: Teardown", ["", "%PIX-6-302014", "", "Teardown"]),
            ("<190>.Apr 15 2007 21:28:13: %PIX-6-302014: Teardown", ["", "%PIX-6-302014", "", "Teardown"]),
            ("<190>Apr 15 2007 21:28:13 %ASA: this", ["", "%ASA", "", "this"]),
            ("<190>Apr 15 21:28:13 2007 linksys app: msg", ["linksys", "app", "", "msg"]),
            ("<189>643: *Jan  8 19:46:03.295 UTC: %LINEPROTO-5-UPDOWN: Line", ["", "%LINEPROTO-5-UPDOWN", "", "Line"]),
            ("<0>91: *Oct 07 03:10:04: mydevice.com %CRYPTO-4-X: decaps: y", ["mydevice.com", "%CRYPTO-4-X", "", "decaps: y"]),
            ("<189>643: router1: *Jan  8 19:46:03.295: %SYS-5-X: y", ["router1", "%SYS-5-X", "", "y"]),
            ("<38>Sep 22 10:11:56 Message forwarded from cdaix66: sshd[679960]: x", ["cdaix66", "sshd", "679960", "x"]),
            ("<38>Sep 22 10:11:56 last message repeated 5 times", ["", "", "", "last message repeated 5 times"]),
            ("<0>Jan 10 01:00:00 0001:BABA::BAB0 prg0: m", ["0001:BABA::BAB0", "prg0", "", "m"]),
            ("<0>Jan 10 01:00:00 0002:: prg0: m", ["0002::", "prg0", "", "m"]),
            ("<0>Jan 10 01:00:00 prg0: m", ["", "prg0", "", "m"]),
            ("<7>2006-11-10T10:43:21.156+02:00 bzorp openvpn[2499]: x", ["bzorp", "openvpn", "2499", "x"]),
            ("<7>2006-11-10T10:43:21.1560000000000 bzorp openvpn[2499]: x", ["bzorp", "openvpn", "2499", "x"]),
            ("<7>Aug 29 02:00:00 bzorp ctld/snmpd[2499]: x", ["bzorp", "ctld", "2499", "x"]),
            (
                "<30>Jan  1 00:00:00 cabinet b4fb,UAP-nanoHD-5.43: hostapd: x",
                ["cabinet", "b4fb,UAP-nanoHD-5.43", "", "hostapd: x"],
            ),
            ("<13>Aug 29 02:00:00 ../escape app: x", ["", "", "", "../escape app: x"]),
            ("Oct 11 22:14:15 mymachine su: no pri", ["mymachine", "su", "", "no pri"]),
            ("<7>2006-10-29T02:00:00.156+01:00", ["", "", "", ""]),
        ] {
            assert_eq!(shown(raw), expected, "{raw}");
            assert_eq!(parse(raw.as_bytes(), &Options::default()).grammar, Grammar::Rfc3164, "{raw}");
        }
    }

    /// `SysLogHandler` with the formats in use: the host is the peer's, the text is whole.
    #[test]
    fn python_keeps_its_whole_text() {
        for (raw, app_name) in [
            ("user logged in", ""),
            ("", ""),
            ("python-app: INFO hello", "python-app"),
            ("python-app[123]: INFO hello", "python-app"),
            ("INFO:root:hello", ""),
            ("2026-11-20 21:14:26,171 python-app: INFO hello", ""),
            ("boom\nTraceback (most recent call last):\n  File \"x\", line 1\nZeroDivisionError: division by zero", ""),
            ("{\"event\": \"x\"}", ""),
        ] {
            let framed = format!("<14>{raw}");
            let fields = parse(framed.as_bytes(), &Options::default());
            assert_eq!(fields.grammar, Grammar::Headerless, "{raw}");
            assert_eq!((fields.hostname, fields.message), (&b""[..], raw.as_bytes()));
            assert_eq!(fields.app_name, app_name.as_bytes(), "{raw}");
        }
    }

    #[test]
    fn a_leading_asctime_is_the_timestamp_where_the_input_says_so() {
        let options = Options { asctime: true, ..Options::default() };
        let fields = parse(b"<14>2026-11-20 21:14:26,171 python-app: INFO hello", &options);
        let stamp =
            Civil { year: Some(2026), month: 11, day: 20, hour: 21, minute: 14, second: 26, micros: 171_000, offset: None };
        assert_eq!((fields.timestamp, fields.app_name), (Timestamp::Civil(stamp), &b"python-app"[..]));
        assert_eq!(fields.message, b"2026-11-20 21:14:26,171 python-app: INFO hello");
    }

    #[test]
    fn what_has_no_true_priority_is_text() {
        for raw in
            ["<002>1 x", "<192>x", "<1011>x", "<123456789012345678901234567890>x", "<>x", "<a>x", "plain words", "", "\0\0"]
        {
            let fields = parse(raw.as_bytes(), &Options::default());
            assert_eq!((fields.grammar, fields.message), (Grammar::Text, raw.as_bytes()));
            assert_eq!(fields.priority, Priority::DEFAULT);
        }
    }
}
