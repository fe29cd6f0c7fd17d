//! RELP frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`, in both directions.

use std::ops::Range;

/// 999999999, and then 1 again; 0 is for hints of the server.
pub const LAST_NUMBER: u32 = 999_999_999;

/// One frame at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelpFrame {
    pub number: u32,
    /// Where the command stands.
    pub command: Range<usize>,
    /// Where the data stand.
    pub data: Range<usize>,
    /// Octets in all, the line feed among them.
    pub length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relp {
    Frame(RelpFrame),
    /// Its end has not come; the head has, where it is given.
    Unfinished(Option<RelpFrame>),
    /// This cannot become a frame.
    Wrong(&'static str),
}

/// An offer of ours: what the client sends after the server has said the same is a zstd stream. Others pass over it.
const COMPRESSION: &str = "compression=zstd";
const SOFTWARE: &str = concat!("penstock,", env!("CARGO_PKG_VERSION"));

/// What either side says at the opening of a session.
pub fn offers(version: u8, compressed: bool) -> String {
    let compression = if compressed { format!("\n{COMPRESSION}") } else { String::new() };
    format!("relp_version={version}\nrelp_software={SOFTWARE}\ncommands=syslog{compression}")
}

/// Whether the other side takes, or has asked for, compression.
pub fn offers_compression(offers: &[u8]) -> bool {
    offers.split(|byte| *byte == b'\n').any(|line| line == COMPRESSION.as_bytes())
}

/// Digits of a number or length.
const DIGITS: usize = 9;
/// Octets of a command's name.
const COMMAND: usize = 32;

/// The frame that begins with the first byte.
pub fn split(bytes: &[u8]) -> Relp {
    match head(bytes) {
        Err(state) => state,
        Ok(frame) => match bytes.get(frame.length - 1) {
            None => Relp::Unfinished(Some(frame)),
            Some(b'\n') => Relp::Frame(frame),
            Some(_) => Relp::Wrong("no line feed ends the frame"),
        },
    }
}

fn head(bytes: &[u8]) -> Result<RelpFrame, Relp> {
    let (number, at) = number(bytes, 0, b" ")?;
    let start = at + 1;
    let rest = bytes.get(start..).unwrap_or_default();
    let name = rest.iter().take(COMMAND + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    match rest.get(name) {
        _ if name > COMMAND => return Err(Relp::Wrong("its command has no end")),
        None => return Err(Relp::Unfinished(None)),
        Some(b' ') if name > 0 => {}
        Some(_) => return Err(Relp::Wrong("no command stands where one is expected")),
    }
    let command = start..start + name;
    let (length, at) = self::number(bytes, command.end + 1, b" \n")?;
    let length = length as usize;
    // Without data there is no blank; some send one.
    let data = match (length, bytes.get(at)) {
        (0, Some(b' ')) => at + 1..at + 1,
        (0, _) => at..at,
        _ => at + 1..at + 1 + length,
    };
    Ok(RelpFrame { number, command, length: data.end + 1, data })
}

/// Digits up to one of these octets, and where that stands.
fn number(bytes: &[u8], start: usize, ends: &[u8]) -> Result<(u32, usize), Relp> {
    let rest = bytes.get(start..).unwrap_or_default();
    let digits = rest.iter().take(DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        _ if digits > DIGITS => Err(Relp::Wrong("a number has more than nine digits")),
        None => Err(Relp::Unfinished(None)),
        Some(end) if digits > 0 && ends.contains(end) => {
            let value = rest[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
            Ok((value, start + digits))
        }
        Some(_) => Err(Relp::Wrong("no number stands where one is expected")),
    }
}

/// Appends a frame.
pub fn write(number: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{number} {command} {}", data.len()).as_bytes());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// The number behind this one.
pub fn next(number: u32) -> u32 {
    if number >= LAST_NUMBER { 1 } else { number + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: &[u8]) -> Option<(u32, &[u8], &[u8], usize)> {
        match split(bytes) {
            Relp::Frame(frame) => Some((frame.number, &bytes[frame.command], &bytes[frame.data], frame.length)),
            _ => None,
        }
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let cases: [(&[u8], _); 4] = [
            (b"1 open 5 a\nb c\n", (1, &b"open"[..], &b"a\nb c"[..], 15)),
            (b"7 close 0\n", (7, b"close", b"", 10)),
            (b"0 serverclose 0 \n", (0, b"serverclose", b"", 17)),
            (b"999999999 syslog 1 x\nmore", (LAST_NUMBER, b"syslog", b"x", 21)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parts(bytes), Some(expected));
            for end in 0..expected.3 {
                assert!(matches!(split(&bytes[..end]), Relp::Unfinished(_)), "{end}");
            }
        }
        let mut written = Vec::new();
        write(2, "rsp", b"200 OK", &mut written);
        assert_eq!(written, b"2 rsp 6 200 OK\n");
        assert_eq!((next(1), next(LAST_NUMBER)), (2, 1));
    }

    #[test]
    fn what_is_no_frame_is_said() {
        for bytes in [
            &b"<14>a"[..],
            b"1  1 x\n",
            b"1 syslog x",
            b"1234567890 a 1 x\n",
            b"1 syslog 1 xx",
            b"1 sys-log 1 x\n",
            b"\x16\x03\x01",
        ] {
            assert!(matches!(split(bytes), Relp::Wrong(_)), "{bytes:?}");
        }
    }
}
