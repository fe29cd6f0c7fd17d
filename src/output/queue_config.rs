//! `queue = { … }` of an output.

use toml::Spanned;

use super::Plan;
use crate::config::{Scope, Size};
use crate::message::Severity;
use crate::queue::{Bounds, Shed, WhenFull};

/// A queue that holds less than two chunks would wait for each of them.
pub const SMALLEST_QUEUE: usize = 256 << 10;
/// Fill level above which shedding begins where it is not given.
const SHED_ABOVE: f64 = 0.8;

/// As written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QueueConfig {
    pub size: Option<Spanned<Size>>,
    pub when_full: Option<WhenFullName>,
    /// Above `shed-above` messages of this severity and less are dropped.
    pub shed: Option<Spanned<String>>,
    /// A part of `size`: `"80%"`.
    pub shed_above: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFullName {
    Block,
    DropNewest,
}

impl QueueConfig {
    /// Puts into the plan what is written over what it has by default.
    pub fn apply(&self, plan: &mut Plan, scope: &mut Scope<'_>) {
        if let Some(size) = &self.size {
            if size.as_ref().0 < SMALLEST_QUEUE {
                scope.error(size.span(), format!("a queue has at least {} KiB", SMALLEST_QUEUE >> 10));
            }
            plan.queue_size = Some(size.as_ref().0);
        }
        match self.when_full {
            Some(WhenFullName::Block) => plan.bounds.when_full = WhenFull::Block,
            Some(WhenFullName::DropNewest) => plan.bounds.when_full = WhenFull::DropNewest,
            None => {}
        }
        plan.shed_above = self.shed_above.as_ref().and_then(|text| percent(text, scope)).unwrap_or(SHED_ABOVE);
        plan.bounds.shed = self.shed.as_ref().and_then(|text| severity(text, scope)).map(|severity| Shed { above: 0, severity });
        if let (Some(above), None) = (&self.shed_above, &self.shed) {
            scope.error(above.span(), "`shed-above` without `shed`: which severities go?");
        }
    }
}

/// What a queue is where nothing is written.
pub(super) fn bounds(size: usize, when_full: WhenFull) -> Bounds {
    Bounds { size, when_full, shed: None }
}

fn percent(text: &Spanned<String>, scope: &mut Scope<'_>) -> Option<f64> {
    let value = text.as_ref().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let value = value.filter(|value| (0.0..=100.0).contains(value));
    if value.is_none() {
        scope.error(text.span(), format!("`{}` where a part of the queue is expected: `\"80%\"`", text.as_ref()));
    }
    value.map(|value| value / 100.0)
}

fn severity(text: &Spanned<String>, scope: &mut Scope<'_>) -> Option<u8> {
    let severity = Severity::parse(text.as_ref());
    if severity.is_none() {
        let suggestion = crate::template::did_you_mean(text.as_ref(), crate::message::SEVERITIES);
        scope.error(text.span(), format!("no severity is called `{}`{suggestion}", text.as_ref()));
    }
    severity.map(|severity| severity.0)
}
