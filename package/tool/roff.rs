//! Text as roff has it, for man(7).

/// What a formatter would take for its own becomes text.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            // A hyphen that can be copied into a shell.
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '"' => out.push_str("\\(dq"),
            character if character.is_ascii() => out.push(character),
            // By number, so that no formatter need guess the file's encoding.
            character => out.push_str(&format!("\\[u{:04X}]", u32::from(character))),
        }
    }
    out
}

/// A line that begins with a dot would be a request.
pub fn line(text: &str) -> String {
    let mark = if text.starts_with('.') { "\\&" } else { "" };
    format!("{mark}{text}\n")
}

/// An argument of a request.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

#[test]
fn nothing_of_a_text_acts() {
    assert_eq!(escaped("a-b \\n 'c' “d”"), "a\\-b \\en \\(aqc\\(aq \\[u201C]d\\[u201D]");
    assert_eq!(line(".SH"), "\\&.SH\n");
}
