//! `msg % args` as Python would write it, from plain values: nothing of theirs is ever called.
//!
//! The rules are those of "printf-style String Formatting" in Python's library reference. What they would refuse is None.

use super::value::{Heap, Node, Value, float};

/// Wider fields and more digits are refused, whatever they claim.
const WIDEST: usize = 4096;
/// More conversions than anybody writes: each looks for its argument.
const MOST_CONVERSIONS: usize = 1000;

pub fn format(pattern: &str, args: &Value, heap: &Heap, most: usize) -> Option<String> {
    let positional = match heap.node(args) {
        Some(Node::Tuple(items)) => items.as_slice(),
        _ => std::slice::from_ref(args),
    };
    let mut writer = Formatter { heap, args, positional, at: 0, is_named: false, most, out: String::new() };
    let mut rest = pattern;
    let mut conversions = 0;
    while let Some((before, after)) = rest.split_once('%') {
        conversions += 1;
        if conversions > MOST_CONVERSIONS {
            return None;
        }
        writer.out.push_str(before);
        rest = writer.one(after)?;
        if writer.out.len() > most {
            return None;
        }
    }
    writer.out.push_str(rest);
    let is_used = writer.at == positional.len() || writer.is_named || matches!(heap.node(args), Some(Node::Dict(_)));
    is_used.then_some(writer.out)
}

struct Formatter<'h> {
    heap: &'h Heap,
    args: &'h Value,
    positional: &'h [Value],
    at: usize,
    is_named: bool,
    most: usize,
    out: String,
}

#[derive(Default)]
struct Spec {
    alternate: bool,
    blank: bool,
    left: bool,
    plus: bool,
    precision: Option<usize>,
    width: usize,
    zero: bool,
}

impl<'h> Formatter<'h> {
    /// What stands behind a `%`; gives what comes after it.
    fn one<'p>(&mut self, mut rest: &'p str) -> Option<&'p str> {
        let mut named = None;
        if let Some(after) = rest.strip_prefix('(') {
            let (name, after) = after.split_once(')')?;
            named = Some(self.named(name)?);
            self.is_named = true;
            rest = after;
        }
        let (mut spec, after) = flags(rest);
        let (width, after) = self.count(after)?;
        let width = width.unwrap_or(0);
        (spec.left, spec.width) = (spec.left || width < 0, usize::try_from(width.unsigned_abs()).ok()?);
        let after = match after.strip_prefix('.') {
            Some(after) => {
                let (precision, after) = self.count(after)?;
                spec.precision = Some(usize::try_from(precision.unwrap_or(0).max(0)).ok()?);
                after
            }
            None => after,
        };
        let after = after.trim_start_matches(['h', 'l', 'L']);
        let kind = after.chars().next()?;
        let after = &after[kind.len_utf8()..];
        if spec.width > WIDEST || spec.precision.is_some_and(|precision| precision > WIDEST) {
            return None;
        }
        if kind == '%' {
            self.out.push('%');
            return Some(after);
        }
        let value = match named {
            Some(value) => value,
            None => self.next()?,
        };
        self.convert(kind, value, &spec)?;
        Some(after)
    }

    /// Digits, or `*` for the next argument.
    fn count<'p>(&mut self, rest: &'p str) -> Option<(Option<i64>, &'p str)> {
        if let Some(rest) = rest.strip_prefix('*') {
            let Value::Int(number) = self.next()? else { return None };
            return Some((Some(*number), rest));
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(end);
        if digits.is_empty() { Some((None, rest)) } else { digits.parse().ok().map(|number| (Some(number), rest)) }
    }

    fn next(&mut self) -> Option<&'h Value> {
        let value = self.positional.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    fn named(&self, name: &str) -> Option<&'h Value> {
        let Some(Node::Dict(entries)) = self.heap.node(self.args) else { return None };
        let is_named = |key: &Value| matches!(key, Value::Text(text) if &**text == name);
        entries.iter().rev().find(|(key, _)| is_named(key)).map(|(_, value)| value)
    }

    fn convert(&mut self, kind: char, value: &Value, spec: &Spec) -> Option<()> {
        let most = self.most;
        let text = match kind {
            's' if matches!(value, Value::Text(_)) => {
                let Value::Text(text) = value else { return None };
                self.padded(cut(text, spec.precision), spec);
                return Some(());
            }
            's' | 'r' | 'a' => {
                // A character has four octets at most, and as many again for its escape.
                let most = spec.precision.map_or(most, |precision| most.min(8 * precision + 8));
                let mut bytes = Vec::new();
                match (kind, value) {
                    ('s', _) => self.heap.text(value, most, &mut bytes),
                    // What is cut off behind need not be shown.
                    (_, Value::Text(text)) => self.heap.repr(&Value::Text(cut(text, spec.precision).into()), most, &mut bytes),
                    _ => self.heap.repr(value, most, &mut bytes),
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let text = if kind == 'a' { ascii(&text) } else { text };
                cut(&text, spec.precision).to_owned()
            }
            'c' => match value {
                Value::Int(code) => char::from_u32(u32::try_from(*code).ok()?)?.to_string(),
                Value::Text(text) if text.chars().count() == 1 => text.to_string(),
                _ => return None,
            },
            'd' | 'i' | 'u' => return self.number(filled(decimal(value)?, spec), spec),
            'o' | 'x' | 'X' => return self.number(filled(based(kind, value, spec)?, spec), spec),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => return self.number(real(kind, value, spec)?, spec),
            _ => return None,
        };
        self.padded(&text, spec);
        Some(())
    }

    fn padded(&mut self, text: &str, spec: &Spec) {
        let missing = spec.width.saturating_sub(text.chars().count());
        let blanks = " ".repeat(missing);
        let (before, after) = if spec.left { ("", &*blanks) } else { (&*blanks, "") };
        self.out.extend([before, text, after]);
    }

    /// The sign, the prefix and the digits.
    fn number(&mut self, (is_negative, prefix, digits): Digits, spec: &Spec) -> Option<()> {
        let sign = match is_negative {
            true => "-",
            false if spec.plus => "+",
            false if spec.blank => " ",
            false => "",
        };
        let missing = spec.width.saturating_sub(sign.len() + prefix.len() + digits.len());
        let zeros = if spec.zero && !spec.left { "0".repeat(missing) } else { String::new() };
        self.padded(&format!("{sign}{prefix}{zeros}{digits}"), spec);
        Some(())
    }
}

fn flags(rest: &str) -> (Spec, &str) {
    let mut spec = Spec::default();
    let end = rest.find(|c| !matches!(c, '#' | '0' | '-' | ' ' | '+')).unwrap_or(rest.len());
    for flag in rest[..end].chars() {
        match flag {
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            '-' => spec.left = true,
            ' ' => spec.blank = true,
            _ => spec.plus = true,
        }
    }
    (spec, &rest[end..])
}

/// So many characters of it.
fn cut(text: &str, most: Option<usize>) -> &str {
    most.and_then(|most| text.char_indices().nth(most)).map_or(text, |(end, _)| &text[..end])
}

/// Of a whole number the precision is the fewest digits.
fn filled((is_negative, prefix, digits): Digits, spec: &Spec) -> Digits {
    let zeros = "0".repeat(spec.precision.unwrap_or(0).saturating_sub(digits.len()));
    (is_negative, prefix, zeros + &digits)
}

/// Without its sign.
type Digits = (bool, &'static str, String);

fn decimal(value: &Value) -> Option<Digits> {
    let digits = match value {
        Value::Bool(value) => u8::from(*value).to_string(),
        Value::Int(number) => number.to_string(),
        Value::Long(digits) => digits.to_string(),
        Value::Float(number) if number.is_finite() => format!("{:.0}", number.trunc()),
        _ => return None,
    };
    Some(match digits.strip_prefix('-') {
        Some(digits) => (digits != "0", "", digits.to_owned()),
        None => (false, "", digits),
    })
}

fn based(kind: char, value: &Value, spec: &Spec) -> Option<Digits> {
    let number = match value {
        Value::Bool(value) => i64::from(*value),
        Value::Int(number) => *number,
        _ => return None,
    };
    let magnitude = number.unsigned_abs();
    let (prefix, digits) = match kind {
        'o' => ("0o", format!("{magnitude:o}")),
        'x' => ("0x", format!("{magnitude:x}")),
        _ => ("0X", format!("{magnitude:X}")),
    };
    Some((number < 0, if spec.alternate { prefix } else { "" }, digits))
}

fn real(kind: char, value: &Value, spec: &Spec) -> Option<Digits> {
    let number = match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Int(number) => *number as f64,
        Value::Long(digits) => digits.parse().ok()?,
        Value::Float(number) => *number,
        _ => return None,
    };
    let (is_negative, magnitude) = (number.is_sign_negative() && !number.is_nan(), number.abs());
    let precision = spec.precision.unwrap_or(6);
    let text = match kind.to_ascii_lowercase() {
        _ if !magnitude.is_finite() => float(magnitude),
        'e' => exponential(magnitude, precision),
        'f' => format!("{magnitude:.precision$}"),
        _ => general(magnitude, precision.max(1), spec.alternate),
    };
    Some((is_negative, "", if kind.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text }))
}

/// Rust writes `1.5e2`, C and Python `1.5e+02`.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// So many significant digits, in whichever form is shorter.
fn general(number: f64, precision: usize, alternate: bool) -> String {
    let scientific = exponential(number, precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') && !alternate {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= precision as i32 {
        return format!("{}e{exponent}", trimmed(mantissa));
    }
    let decimals = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
    trimmed(&format!("{number:.decimals$}"))
}

fn ascii(text: &str) -> String {
    let shown = |c: char| match u32::from(c) {
        0..0x80 => c.to_string(),
        code @ 0x80..0x100 => format!("\\x{code:02x}"),
        code @ 0x100..0x1_0000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::literal;

    fn formatted(pattern: &str, args: &str) -> Option<String> {
        let mut heap = Heap::default();
        let args = literal::read(args, &mut heap);
        format(pattern, &args, &heap, 1 << 20)
    }

    /// The right sides are what CPython 3.11 gives.
    #[test]
    fn it_is_what_python_writes() {
        for (pattern, args, expected) in [
            ("user %s did %d of %5.1f%%", "('x', 3, 2.25)", "user x did 3 of   2.2%"),
            ("%(a)s and %(b)r", "{'a': 'x', 'b': 'y'}", "x and 'y'"),
            ("%05d|%-5d|%+d|% d|%x|%#X|%#o", "(42, 42, 42, 42, 255, 255, 8)", "00042|42   |+42| 42|ff|0XFF|0o10"),
            (
                "%e %E %g %g %g %G",
                "(1234.5, 0.00012, 0.0001, 1e-05, 123456789.0, 1e+20)",
                "1.234500e+03 1.200000E-04 0.0001 1e-05 1.23457e+08 1E+20",
            ),
            ("%s %s %s", "(None, True, [1, 'a'])", "None True [1, 'a']"),
            ("%*d|%.*f|%-*d|", "(4, 7, 2, 1.005, 3, 1)", "   7|1.00|1  |"),
            ("%.5d|%8.3x|%-6.2d|%.3s|%.2r", "(42, 10, 7, 'äöüß', 'abc')", "00042|     00a|07    |äöü|'a"),
            ("%c%c %.2s %10s|%-6s|", "(65, 'b', 'abc', 'right', 'left')", "Ab ab      right|left  |"),
            ("%d %i %d", "(3.9, -3.9, True)", "3 -3 1"),
            ("%s", "('only',)", "only"),
            ("%s", "{'a': 1}", "{'a': 1}"),
            ("%a", "('é€😀',)", "'\\xe9\\u20ac\\U0001f600'"),
            ("100%% of %s", "('it',)", "100% of it"),
            ("%08.3f|%+.1e|%-8.2f|", "(-3.14159, 12345.678, 2.5)", "-003.142|+1.2e+04|2.50    |"),
            ("%f %f", "(inf, nan)", "inf nan"),
            ("%s", "(<object object at 0x7f>,)", "<object object at 0x7f>"),
        ] {
            assert_eq!(formatted(pattern, args).as_deref(), Some(expected), "{pattern} % {args}");
        }
    }

    #[test]
    fn what_python_refuses_is_none() {
        for (pattern, args) in [
            ("%s %s", "('one',)"),
            ("%s", "('one', 'two')"),
            ("%d", "('text',)"),
            ("%(a)s", "('one',)"),
            ("%(a)s", "{'b': 1}"),
            ("%", "(1,)"),
            ("%q", "(1,)"),
            ("%999999999d", "(1,)"),
            ("%.999999999f", "(1.0,)"),
            ("%*d", "(99999999999, 1)"),
            ("none", "(1,)"),
            (&*"%(a).0s".repeat(20_000), &*format!("{{'a': '{}'}}", "x".repeat(160_000))),
        ] {
            assert_eq!(formatted(pattern, args), None, "{pattern} % {args}");
        }
    }
}
