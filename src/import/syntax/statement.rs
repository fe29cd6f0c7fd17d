//! Statements, in all three dialects beside one another. What cannot be read is reported and passed over.

use super::cursor::{Cursor, Wrong};
use super::expression::{Compare, Expression};
use super::files::Reader;
use super::{DEFAULT_RULESET, Object, Statement};

impl Reader<'_> {
    /// All statements of a file.
    pub(super) fn file(&mut self, cursor: &mut Cursor<'_>) {
        loop {
            cursor.skip_blanks();
            if cursor.is_at_end() {
                return;
            }
            let (origin, start) = (cursor.origin(), cursor.position());
            if let Err(what) = self.top_level(cursor) {
                self.report.lost(&origin, format!("cannot be read: {what}"));
            }
            if cursor.position() == start {
                cursor.skip_line();
            }
        }
    }

    fn top_level(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
        let origin = cursor.origin();
        let rest = cursor.rest();
        if rest.starts_with('$') {
            let line = cursor.line();
            self.directive(&origin, &line);
            return Ok(());
        }
        if starts_object(rest, "template") {
            let (name, template) = cursor.template()?;
            self.source.templates.insert(name.to_ascii_lowercase(), template);
            return Ok(());
        }
        for kind in
            ["dyn_stats", "global", "input", "lookup_table", "main_queue", "module", "parser", "perctile_stats", "timezone"]
        {
            if starts_object(rest, kind) {
                cursor.keyword(kind);
                let object = Object { origin, params: cursor.params()? };
                self.object(kind, object);
                return Ok(());
            }
        }
        if starts_object(rest, "ruleset") {
            return self.ruleset(cursor);
        }
        let statements = self.statement(cursor)?;
        let current = self.current.clone();
        self.source.ruleset(&current).statements.extend(statements);
        Ok(())
    }

    fn object(&mut self, kind: &str, object: Object) {
        match kind {
            "global" => self.source.globals.push(object),
            "input" => self.source.inputs.push(object),
            "lookup_table" => self.source.lookups.push(object),
            "main_queue" => self.report.differs(
                &object.origin,
                "there is no queue before the rules: each output has its own, bounded by `memory` and on disk where it forwards",
            ),
            "module" => self.source.modules.push(object),
            "parser" => {
                self.report.differs(&object.origin, "RFC 5424, RFC 3164 and messages without header are told apart by themselves")
            }
            "timezone" => self.report.lost(&object.origin, "names of zones inside of messages: give an input its `timezone`"),
            _ => self.report.lost(&object.origin, "statistics of one's own: `[metrics]` counts by input and output"),
        }
    }

    fn ruleset(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
        let origin = cursor.origin();
        cursor.keyword("ruleset");
        let object = Object { origin, params: cursor.params()? };
        let name = object.get("name").ok_or("a ruleset has no name")?.to_owned();
        if object.params.keys().any(|name| name.starts_with("queue.")) {
            self.report.differs(&object.origin, "a ruleset has no queue of its own: each of its outputs has one");
        }
        if object.params.contains_key("parser") {
            self.report.differs(&object.origin, "RFC 5424, RFC 3164 and messages without header are told apart by themselves");
        }
        self.source.ruleset(&name).has_queue |= object.get("queue.type").is_some_and(|kind| !kind.eq_ignore_ascii_case("direct"));
        let statements = self.block(cursor)?;
        self.source.ruleset(&name).statements.extend(statements);
        Ok(())
    }

    /// `{ statement … }`
    fn block(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        cursor.expect("{")?;
        let mut statements = Vec::new();
        loop {
            cursor.skip_blanks();
            if cursor.symbol("}") {
                return Ok(statements);
            }
            if cursor.is_at_end() {
                return Err("a block without its `}`".to_owned());
            }
            if cursor.rest().starts_with('$') {
                return Err(format!("a statement is expected before `{}`", cursor.shown()));
            }
            statements.extend(self.statement(cursor)?);
        }
    }

    /// One statement, or a selector with all its actions. Deep nesting is bounded by the stack's own guard.
    fn statement(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        self.depth += 1;
        let statement = if self.depth > DEEPEST { Err("nested too deep".to_owned()) } else { self.one_statement(cursor) };
        self.depth -= 1;
        statement
    }

    fn one_statement(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        let origin = cursor.origin();
        let rest = cursor.rest();
        if starts_object(rest, "action") {
            return self.chain(cursor);
        }
        if starts_object(rest, "include") {
            cursor.keyword("include");
            let object = Object { origin, params: cursor.params()? };
            return Ok(self.include(&object));
        }
        if cursor.keyword("if") {
            return self.conditional(cursor, origin).map(|statement| vec![statement]);
        }
        if cursor.keyword("set") || cursor.keyword("reset") {
            let variable = cursor.variable()?;
            cursor.expect("=")?;
            let value = cursor.expression()?;
            cursor.expect(";")?;
            return Ok(vec![Statement::Set { origin, variable, value }]);
        }
        if cursor.keyword("unset") {
            let variable = cursor.variable()?;
            cursor.expect(";")?;
            return Ok(vec![Statement::Unset { variable }]);
        }
        if cursor.keyword("call") {
            let ruleset = cursor.word(|c| !c.is_whitespace() && c != '}' && c != ';').to_owned();
            return Ok(vec![Statement::Call { origin, ruleset }]);
        }
        if cursor.keyword("stop") {
            return Ok(vec![Statement::Stop]);
        }
        if cursor.keyword("continue") {
            return Ok(Vec::new());
        }
        if cursor.keyword("foreach") || cursor.keyword("call_indirect") {
            return self.passed_over(cursor, &origin);
        }
        if let Some(condition) = self.filter(cursor)? {
            let then = self.chain(cursor)?;
            return Ok(vec![Statement::If { origin, condition, then, otherwise: Vec::new() }]);
        }
        if rest.starts_with(['!', '+']) {
            return Err("a block of BSD's syslogd: write the program or host as a condition".to_owned());
        }
        self.chain(cursor)
    }

    fn passed_over(&mut self, cursor: &mut Cursor<'_>, origin: &super::Origin) -> Result<Vec<Statement>, Wrong> {
        match cursor.rest().find(['{', ';', '\n']) {
            Some(at) if cursor.rest()[at..].starts_with('{') => {
                cursor.advance(at);
                self.block(cursor)?;
            }
            _ => cursor.skip_line(),
        }
        self.report.lost(origin, "what is done for each of a list, or by a computed name, has no counterpart");
        Ok(Vec::new())
    }

    /// `if … then … [else …]`
    fn conditional(&mut self, cursor: &mut Cursor<'_>, origin: super::Origin) -> Result<Statement, Wrong> {
        let condition = cursor.expression()?;
        if !cursor.keyword("then") {
            return Err(format!("`then` is expected before `{}`", cursor.shown()));
        }
        let then = self.branch(cursor)?;
        cursor.skip_blanks();
        let otherwise = if cursor.keyword("else") { self.branch(cursor)? } else { Vec::new() };
        Ok(Statement::If { origin, condition, then, otherwise })
    }

    fn branch(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        cursor.skip_blanks();
        let mut statements = if cursor.rest().starts_with('{') { self.block(cursor)? } else { self.statement(cursor)? };
        statements.extend(self.more_actions(cursor)?);
        Ok(statements)
    }

    /// `facility.severity` or `:property, operation, "value"` before actions.
    fn filter(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Expression>, Wrong> {
        let rest = cursor.rest();
        if rest.starts_with(':')
            && rest.lines().next().is_some_and(|line| line[1..].split(':').next().is_some_and(|name| name.contains(',')))
        {
            return self.property_filter(cursor).map(Some);
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "*,;.!=_-".contains(c))).unwrap_or(rest.len());
        let selector = &rest[..end];
        let is_selector = selector.contains('.') && selector.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*');
        if !is_selector {
            return Ok(None);
        }
        let mut text = String::new();
        loop {
            text.push_str(cursor.word(|c| c.is_ascii_alphanumeric() || "*,;.!=_-".contains(c)));
            // It goes on behind a backslash at the end of the line, and behind a semicolon with a blank, as some write it.
            let is_continued = cursor.rest().starts_with("\\\n");
            let before = cursor.position();
            cursor.word(|c| matches!(c, ' ' | '\t') || (is_continued && matches!(c, '\\' | '\n')));
            let goes_on = cursor.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '*');
            if !(is_continued || text.ends_with(';')) || !goes_on || cursor.position() == before {
                break;
            }
        }
        Ok(Some(Expression::Selector(text)))
    }

    fn property_filter(&mut self, cursor: &mut Cursor<'_>) -> Result<Expression, Wrong> {
        cursor.advance(1);
        let blank = |c: char| c == ' ' || c == '\t';
        let property = cursor.word(|c| c != ',').trim().trim_start_matches('$').to_ascii_lowercase();
        cursor.expect(",")?;
        let negated = cursor.symbol("!");
        let operation = cursor.word(|c| c != ',' && !c.is_whitespace()).to_ascii_lowercase();
        cursor.word(blank);
        let text = |text: String| Box::new(Expression::Text(text));
        let left = Box::new(Expression::Property(property));
        let found = if operation == "isempty" {
            cursor.symbol(",");
            if cursor.rest().starts_with('"') {
                cursor.string()?;
            }
            Expression::Compare { compare: Compare::Equal, left, right: text(String::new()) }
        } else {
            cursor.expect(",")?;
            let value = filter_value(cursor)?;
            let compare = match operation.as_str() {
                "contains" => Compare::Contains(false),
                "contains_i" => Compare::Contains(true),
                "isequal" => Compare::Equal,
                "startswith" => Compare::StartsWith(false),
                "startswith_i" => Compare::StartsWith(true),
                "endswith" => Compare::EndsWith,
                "regex" => Compare::Matches(false),
                "ereregex" => Compare::Matches(true),
                other => return Err(format!("`{other}` is no comparison of a property")),
            };
            Expression::Compare { compare, left, right: text(value) }
        };
        cursor.skip_blanks();
        Ok(if negated { Expression::Not(Box::new(found)) } else { found })
    }

    /// An action, and those that `&` adds.
    fn chain(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        let mut statements = self.action(cursor)?;
        statements.extend(self.more_actions(cursor)?);
        Ok(statements)
    }

    fn more_actions(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        let mut statements = Vec::new();
        loop {
            self.skip_to_ampersand(cursor);
            if !cursor.symbol("&") {
                return Ok(statements);
            }
            if cursor.keyword("stop") {
                statements.push(Statement::Stop);
            } else {
                statements.extend(self.action(cursor)?);
            }
        }
    }

    /// Directives between an action and its `&` belong to the next action.
    fn skip_to_ampersand(&mut self, cursor: &mut Cursor<'_>) {
        cursor.skip_blanks();
        while cursor.rest().starts_with("$Action") || cursor.rest().starts_with("$action") {
            let origin = cursor.origin();
            let line = cursor.line();
            self.directive(&origin, &line);
            cursor.skip_blanks();
        }
    }

    fn action(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Wrong> {
        let origin = cursor.origin();
        if starts_object(cursor.rest(), "action") {
            cursor.keyword("action");
            let object = Object { origin, params: cursor.params()? };
            return Ok(vec![self.with_module_defaults(object)]);
        }
        if cursor.keyword("stop") {
            return Ok(vec![Statement::Stop]);
        }
        if cursor.rest().starts_with('{') {
            return self.block(cursor);
        }
        let text = cursor.line();
        self.legacy_action(origin, &text)
    }

    /// Where statements go that stand in no `ruleset(…)`.
    pub(super) fn begin_ruleset(&mut self, name: &str) {
        let name = if name.is_empty() { DEFAULT_RULESET } else { name };
        self.source.ruleset(name);
        self.current = name.to_owned();
    }
}

/// More levels than anyone writes.
const DEEPEST: usize = 100;

/// In a property's filter only `\"` and `\\` mean something else than they show.
fn filter_value(cursor: &mut Cursor<'_>) -> Result<String, Wrong> {
    if cursor.peek() != Some('"') {
        return Err(format!("a text in quotes is expected before `{}`", cursor.shown()));
    }
    cursor.advance(1);
    let (rest, value) = crate::template::quoted(cursor.rest()).ok_or("a text without its closing quote")?;
    cursor.advance(cursor.rest().len() - rest.len());
    Ok(value)
}

/// `kind (`
fn starts_object(rest: &str, kind: &str) -> bool {
    let after = rest.get(..kind.len()).filter(|found| found.eq_ignore_ascii_case(kind)).map(|_| &rest[kind.len()..]);
    after.is_some_and(|after| after.trim_start().starts_with('('))
}
