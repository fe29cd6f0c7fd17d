//! RainerScript's expressions. What binds closer stands further down: `or`, `and`, comparisons, `& + -`, `* / %`, `not`.

use super::cursor::{Cursor, Wrong};

#[derive(Clone, Debug, PartialEq)]
pub(in crate::import) enum Expression {
    And(Box<Expression>, Box<Expression>),
    /// Something that is calculated, as it stood.
    Arithmetic(String),
    Call {
        name: String,
        arguments: Vec<Expression>,
    },
    Compare {
        compare: Compare,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Concat(Box<Expression>, Box<Expression>),
    List(Vec<String>),
    Not(Box<Expression>),
    Number(i64),
    Or(Box<Expression>, Box<Expression>),
    /// `$msg`, `$!a!b`, `$.x`, in small letters and without the first `$`.
    Property(String),
    /// `facility.severity` of the older dialect.
    Selector(String),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Compare {
    /// The bool: in any case.
    Contains(bool),
    EndsWith,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// A pattern of POSIX: the bool says extended.
    Matches(bool),
    NotEqual,
    StartsWith(bool),
}

/// Deeper than anyone writes, and far from the end of the stack.
const DEEPEST: usize = 200;

impl Cursor<'_> {
    pub(super) fn expression(&mut self) -> Result<Expression, Wrong> {
        self.or(DEEPEST)
    }

    fn or(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let depth = depth.checked_sub(1).ok_or("nested too deep")?;
        let mut left = self.and(depth)?;
        while self.keyword("or") {
            left = Expression::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut left = self.comparison(depth)?;
        while self.keyword("and") {
            left = Expression::And(Box::new(left), Box::new(self.comparison(depth)?));
        }
        Ok(left)
    }

    fn comparison(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let left = self.sum(depth)?;
        let Some(compare) = self.compare() else {
            return Ok(left);
        };
        let right = self.sum(depth)?;
        Ok(Expression::Compare { compare, left: Box::new(left), right: Box::new(right) })
    }

    fn compare(&mut self) -> Option<Compare> {
        const SYMBOLS: [(&str, Compare); 9] = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<>", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            ("=<", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("=>", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        const WORDS: [(&str, Compare); 5] = [
            ("contains", Compare::Contains(false)),
            ("contains_i", Compare::Contains(true)),
            ("endswith", Compare::EndsWith),
            ("startswith", Compare::StartsWith(false)),
            ("startswith_i", Compare::StartsWith(true)),
        ];
        let symbol = SYMBOLS.into_iter().find(|(symbol, _)| self.symbol(symbol));
        symbol.or_else(|| WORDS.into_iter().find(|(word, _)| self.keyword(word))).map(|(_, compare)| compare)
    }

    fn sum(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let start = self.position();
        let mut left = self.product(depth)?;
        loop {
            if self.symbol("&") {
                left = Expression::Concat(Box::new(left), Box::new(self.product(depth)?));
            } else if self.symbol("+") || self.symbol("-") {
                self.product(depth)?;
                left = Expression::Arithmetic(self.since(start).to_owned());
            } else {
                return Ok(left);
            }
        }
    }

    fn product(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let start = self.position();
        let mut left = self.unary(depth)?;
        while self.symbol("*") || self.symbol("/") || self.symbol("%") {
            self.unary(depth)?;
            left = Expression::Arithmetic(self.since(start).to_owned());
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let depth = depth.checked_sub(1).ok_or("nested too deep")?;
        if self.keyword("not") || self.symbol("!") {
            return Ok(Expression::Not(Box::new(self.unary(depth)?)));
        }
        if self.symbol("(") {
            let inside = self.or(depth)?;
            self.expect(")")?;
            return Ok(inside);
        }
        self.value(depth)
    }

    fn value(&mut self, depth: usize) -> Result<Expression, Wrong> {
        match self.peek() {
            Some('"' | '\'') => self.string().map(Expression::Text),
            Some('[') => self.list().map(Expression::List),
            Some('$') => self.variable().map(Expression::Property),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.call(depth),
            _ => Err(format!("a value is expected before `{}`", self.shown())),
        }
    }

    /// `["a", "b"]`
    pub(super) fn list(&mut self) -> Result<Vec<String>, Wrong> {
        self.expect("[")?;
        let mut values = Vec::new();
        while !self.symbol("]") {
            values.push(self.string()?);
            self.symbol(",");
        }
        Ok(values)
    }

    /// `$msg`, `$!a!b`, `$.x`, `$/x`: without the `$` (both of `$$now`), in small letters: rsyslog's names are alike in any case.
    pub(super) fn variable(&mut self) -> Result<String, Wrong> {
        if self.peek() != Some('$') {
            return Err(format!("a variable is expected before `{}`", self.shown()));
        }
        self.advance(1);
        let name = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '!' | '.' | '/' | '$' | '@'));
        self.skip_blanks();
        Ok(name.trim_start_matches('$').to_ascii_lowercase())
    }

    fn number(&mut self) -> Result<Expression, Wrong> {
        let text = self.word(|c| c.is_ascii_alphanumeric() || c == '-');
        self.skip_blanks();
        let hex = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
        hex.or_else(|| text.parse().ok()).map(Expression::Number).ok_or_else(|| format!("`{text}` is no number"))
    }

    fn call(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_').to_ascii_lowercase();
        self.skip_blanks();
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.symbol(")") {
            arguments.push(self.or(depth)?);
            if !self.symbol(",") && self.peek() != Some(')') {
                return Err(format!("`,` or `)` is expected before `{}`", self.shown()));
            }
        }
        Ok(Expression::Call { name, arguments })
    }
}
