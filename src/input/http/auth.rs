//! Who may send: bearer tokens (RFC 6750) and basic passwords (RFC 7617), from files, compared in constant time.

use std::fmt;
use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use toml::Spanned;

use crate::config::Scope;

type Hash = [u8; 32];

/// The hashes of what is accepted; with none of both everybody may send.
#[derive(Default)]
pub struct Credentials {
    pub(super) tokens: Option<Vec<Hash>>,
    pub(super) passwords: Option<Vec<Hash>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Tells clients apart, for their idempotency keys.
pub(super) type Identity = Hash;

impl Credentials {
    pub(super) fn read(tokens: Option<&Spanned<PathBuf>>, passwords: Option<&Spanned<PathBuf>>, scope: &mut Scope<'_>) -> Self {
        let tokens = tokens.map(|path| lines(path, scope, |line| !line.contains(char::is_whitespace), "a token without blanks"));
        let passwords = passwords.map(|path| lines(path, scope, |line| line.contains(':'), "`user:password`"));
        Self { tokens, passwords }
    }

    pub(super) fn is_open(&self) -> bool {
        self.tokens.is_none() && self.passwords.is_none()
    }
}

/// The hash of each line that is neither empty nor a comment.
fn lines(path: &Spanned<PathBuf>, scope: &mut Scope<'_>, is_good: fn(&str) -> bool, expected: &str) -> Vec<Hash> {
    let text = match std::fs::read_to_string(path.as_ref()) {
        Ok(text) => text,
        Err(error) => {
            scope.error(path.span(), format!("cannot read {}: {}", path.as_ref().display(), crate::sys::reason(&error)));
            return Vec::new();
        }
    };
    let mut hashes = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        if !is_good(line) {
            let place = format!("{}:{}", path.as_ref().display(), at + 1);
            scope.error(path.span(), format!("{place}: {expected} is expected"));
        }
        hashes.push(hash(line.as_bytes()));
    }
    if hashes.is_empty() {
        scope.error(path.span(), format!("{} has no line: nobody could send", path.as_ref().display()));
    }
    hashes
}

fn hash(secret: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

/// None: it is nobody who may send.
pub(super) fn identify(credentials: &Credentials, headers: &HeaderMap) -> Option<Identity> {
    if credentials.is_open() {
        return Some(Identity::default());
    }
    let header = headers.get(AUTHORIZATION)?.as_bytes();
    let blank = header.iter().position(|byte| *byte == b' ')?;
    let (scheme, secret) = (&header[..blank], header[blank..].trim_ascii());
    let (known, hash) = if scheme.eq_ignore_ascii_case(b"bearer") {
        (credentials.tokens.as_ref()?, hash(secret))
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        (credentials.passwords.as_ref()?, hash(&base64(secret)?))
    } else {
        return None;
    };
    // All of them are looked at: the time says nothing about which one it was.
    let is_known = known.iter().fold(false, |found, known| found | verify_slices_are_equal(known, &hash).is_ok());
    is_known.then_some(hash)
}

/// RFC 4648, section 4.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xFF) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(credentials: &Credentials, header: &str) -> Option<Identity> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, header.parse().expect("a header"))]);
        identify(credentials, &headers)
    }

    #[test]
    fn only_what_is_in_the_files_is_known() {
        let both = Credentials { tokens: Some(vec![hash(b"t1"), hash(b"t2")]), passwords: Some(vec![hash(b"user:pa:ss")]) };
        let one = who(&both, "Bearer t1").expect("known");
        let other = who(&both, "bearer  t2").expect("known");
        assert_ne!(one, other);
        assert!(who(&both, "Basic dXNlcjpwYTpzcw==").is_some());
        for header in ["Bearer t3", "Bearer", "Bearer t1 t2", "t1", "Basic dXNlcjpwYTpzc3M=", "Basic !", "Digest t1", ""] {
            assert_eq!(who(&both, header), None, "{header}");
        }
        assert_eq!(identify(&both, &HeaderMap::new()), None);
        assert!(identify(&Credentials::default(), &HeaderMap::new()).is_some());
        let tokens = Credentials { tokens: Some(vec![hash(b"user:pa:ss")]), passwords: None };
        assert_eq!(who(&tokens, "Basic dXNlcjpwYTpzcw=="), None, "a token is no password");
    }
}
