//! `[[output.discard]]`: takes everything and keeps nothing, for a final route.

use super::{Delivery, Output, OutputScope, Plan};
use crate::queue::{Bounds, Chunk, WhenFull};
use crate::route::Envelope;
use crate::template::{Escaping, Format, Template};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
}

pub(super) fn plan(config: &Config, _scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    // Nothing is rendered for it: the records are counted and empty.
    let nothing = Template::compile("", Escaping::Nothing).ok()?;
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "discard",
        place: "nowhere".to_owned(),
        envelope: Envelope::Datagram,
        ..Plan::of(Format::template(nothing), Bounds::new(1 << 20, WhenFull::Block), Box::new(|_| Box::new(Discard)))
    })
}

struct Discard;

impl Output for Discard {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        batch.iter_mut().for_each(Chunk::settle_all);
        Box::pin(std::future::ready(Ok(())))
    }
}
