//! `field|filter|filter`: what templates write and conditions compare.

use super::field::Field;
use super::filter::Filter;
use crate::message::Message;

/// A field, and what is made of it.
#[derive(Clone, Debug)]
pub struct Value {
    pub field: Field,
    pub(super) filters: Vec<Filter>,
}

/// Memory for values that stand nowhere as they are.
#[derive(Debug, Default)]
pub struct Workspace {
    value: Vec<u8>,
    spare: Vec<u8>,
}

impl Value {
    pub(super) fn new(field: Field, mut filters: Vec<Filter>) -> Self {
        if let (Field::Facility, Some(Filter::Number(is_facility))) = (&field, filters.first_mut()) {
            *is_facility = true;
        }
        Self { field, filters }
    }

    /// The field as it is.
    pub fn is_plain(&self) -> bool {
        self.filters.is_empty()
    }

    /// The bytes stand in the message itself, or in what is known of its peer.
    pub fn is_borrowed(&self) -> bool {
        self.is_plain() && self.field.is_borrowed()
    }

    /// The bytes; none where the field is absent.
    pub fn of<'t>(&self, message: &Message<'t>, workspace: &'t mut Workspace) -> &'t [u8] {
        if self.is_plain()
            && let Some(bytes) = self.field.borrowed(message)
        {
            return bytes;
        }
        workspace.value.clear();
        self.field.append(message, &mut workspace.value);
        workspace.filter(&self.filters);
        &workspace.value
    }
}

impl Workspace {
    /// What `write` writes, through the filters.
    pub(super) fn filtered(&mut self, filters: &[Filter], write: impl FnOnce(&mut Vec<u8>)) -> &mut Vec<u8> {
        self.value.clear();
        write(&mut self.value);
        self.filter(filters);
        &mut self.value
    }

    fn filter(&mut self, filters: &[Filter]) {
        filters.iter().for_each(|filter| filter.apply(&mut self.value, &mut self.spare));
    }
}
