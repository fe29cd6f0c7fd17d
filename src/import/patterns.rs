//! Patterns of POSIX (`regcomp(3)` of glibc, which rsyslog uses), as ours.

/// What a pattern became, and what is to be said of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub text: String,
    pub warning: Option<&'static str>,
}

/// A pattern of which one group is wanted (0: the whole), so that it is the first.
pub(super) fn group(text: &str, extended: bool, wanted: usize) -> Result<Pattern, String> {
    translated(text, extended, Some(wanted))
}

pub(super) fn posix(text: &str, extended: bool) -> Result<Pattern, String> {
    translated(text, extended, None)
}

fn translated(text: &str, extended: bool, wanted: Option<usize>) -> Result<Pattern, String> {
    let mut translator = Translator { out: String::new(), warning: None, groups: 0, wanted };
    translator.all(text, extended)?;
    let mut out = translator.out;
    if wanted == Some(0) && translator.groups > 0 {
        out = format!("({out})");
    }
    if wanted.is_some_and(|wanted| wanted > translator.groups) {
        return Err(format!("the pattern has no group {}", wanted.unwrap_or_default()));
    }
    crate::template::pattern(&out).map_err(|what| format!("it {what}"))?;
    Ok(Pattern { text: out, warning: translator.warning })
}

struct Translator {
    out: String,
    warning: Option<&'static str>,
    groups: usize,
    wanted: Option<usize>,
}

impl Translator {
    fn all(&mut self, text: &str, extended: bool) -> Result<(), String> {
        let mut chars = text.chars().peekable();
        // Where a star is no repetition yet (basic patterns).
        let mut at_start = true;
        while let Some(c) = chars.next() {
            let was_start = std::mem::replace(&mut at_start, false);
            match c {
                '[' => self.bracket(&mut chars)?,
                '\\' => {
                    let escaped = chars.next().ok_or("it ends with a backslash")?;
                    at_start = !extended && matches!(escaped, '(' | '|');
                    self.escaped(escaped, extended);
                }
                '*' if !extended && was_start => self.out.push_str(r"\*"),
                '^' if !extended && !was_start => self.out.push_str(r"\^"),
                '$' if !extended && chars.peek().is_some() => self.out.push_str(r"\$"),
                '^' => {
                    at_start = true;
                    self.out.push('^');
                }
                '(' if extended => self.open(),
                '(' | ')' | '{' | '}' | '+' | '?' | '|' if !extended => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                '{' if !chars.peek().is_some_and(char::is_ascii_digit) => self.out.push_str(r"\{"),
                c => self.out.push(c),
            }
        }
        Ok(())
    }

    fn open(&mut self) {
        self.groups += 1;
        let is_wanted = self.wanted == Some(self.groups);
        self.out.push_str(if self.wanted.is_none() || is_wanted { "(" } else { "(?:" });
    }

    fn escaped(&mut self, c: char, extended: bool) {
        match c {
            '(' if !extended => self.open(),
            ')' | '{' | '}' | '+' | '?' | '|' if !extended => self.out.push(c),
            'w' | 'W' | 's' | 'S' | 'b' | 'B' => {
                self.out.push('\\');
                self.out.push(c);
            }
            '<' | '>' => self.out.push_str(r"\b"),
            'd' | 'D' | 'n' | 't' => {
                self.warning = Some(
                    "POSIX knows no `\\d`, `\\n` and `\\t`: rsyslog looks for the letter, and so does this; `[0-9]` is probably meant",
                );
                self.out.push(c);
            }
            c => self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }

    /// In brackets a backslash is itself, and so is what has a meaning for us only.
    fn bracket(&mut self, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
        self.out.push('[');
        if chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        if chars.next_if_eq(&']').is_some() {
            self.out.push_str(r"\]");
        }
        loop {
            match chars.next().ok_or("`[` without its `]`")? {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if chars.peek() == Some(&':') => {
                    let class: String = chars.by_ref().take_while(|c| *c != ']').collect();
                    self.out.push_str(&format!("[{class}]"));
                }
                c @ ('[' | '\\' | '&' | '~') => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_patterns_mean_the_same() {
        for (posix_text, extended, expected) in [
            ("fatal|error", true, "fatal|error"),
            ("fatal|error", false, r"fatal\|error"),
            (r"fatal\|error", false, "fatal|error"),
            (r"\(a\)*b\{2\}c+", false, r"(a)*b{2}c\+"),
            ("*a^b$c$", false, r"\*a\^b\$c$"),
            (r"[\d]+ [[:alpha:]&]", true, r"[\\d]+ [[:alpha:]\&]"),
            ("[]a]{x}", true, r"[\]a]\{x}"),
            (r"a\.b\/c", true, r"a\.b/c"),
        ] {
            assert_eq!(posix(posix_text, extended).expect(posix_text).text, expected, "{posix_text}");
        }
        assert!(posix(r"\d+", true).expect("a pattern").warning.is_some());
        assert_eq!(group("(a)(b)", true, 2).expect("a pattern").text, "(?:a)(b)");
        assert_eq!(group("(a)(b)", true, 0).expect("a pattern").text, "((?:a)(?:b))");
        assert!(group("(a)", true, 2).is_err());
    }
}
