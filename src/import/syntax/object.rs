//! `name(parameter="value" parameter=["a", "b"])`, and the templates that have a body in braces.

use super::cursor::{Cursor, Wrong};
use super::{NamedTemplate, Object, Params, Part, Template};

impl Cursor<'_> {
    /// The parameters in parentheses.
    pub(super) fn params(&mut self) -> Result<Params, Wrong> {
        self.expect("(")?;
        let mut params = Params::new();
        while !self.symbol(")") {
            let name = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')).to_ascii_lowercase();
            if name.is_empty() {
                return Err(format!("a parameter is expected before `{}`", self.shown()));
            }
            self.skip_blanks();
            self.expect("=")?;
            let values = if self.peek() == Some('[') { self.list()? } else { vec![self.string()?] };
            params.insert(name, values);
            self.symbol(",");
        }
        Ok(params)
    }

    /// `template(name="x" type="…" …)`, with its body where it is a list.
    pub(super) fn template(&mut self) -> Result<(String, NamedTemplate), Wrong> {
        let origin = self.origin();
        self.keyword("template");
        let object = Object { origin: origin.clone(), params: self.params()? };
        let name = object.get("name").ok_or("a template has no name")?.to_owned();
        let template = match object.kind().as_str() {
            "string" => Template::Text(object.get("string").ok_or("a template of type string has no `string`")?.to_owned()),
            "list" => Template::List(self.parts()?),
            "subtree" => {
                Template::Subtree(object.get("subtree").ok_or("a template of type subtree has no `subtree`")?.to_owned())
            }
            "plugin" => Template::Plugin(object.get("plugin").unwrap_or_default().to_owned()),
            other => return Err(format!("`{other}` is no type of a template")),
        };
        let on = |name: &&String| object.is_on(name);
        let options = object.params.keys().filter(on).filter_map(|name| name.strip_prefix("option.")).map(str::to_owned);
        Ok((name, NamedTemplate { origin, template, options: options.collect() }))
    }

    /// `{ constant(…) property(…) }`
    fn parts(&mut self) -> Result<Vec<Part>, Wrong> {
        self.expect("{")?;
        let mut parts = Vec::new();
        while !self.symbol("}") {
            if self.keyword("constant") {
                parts.push(Part::Constant(self.params()?));
            } else if self.keyword("property") {
                parts.push(Part::Property(self.params()?));
            } else {
                return Err(format!("`constant` or `property` is expected before `{}`", self.shown()));
            }
        }
        Ok(parts)
    }
}
