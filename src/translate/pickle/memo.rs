//! What a pickle may name again, by number.

use std::collections::HashMap;

use crate::translate::value::Value;

/// What may be named again. Python numbers from 0 on, and others as they like.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Value>,
    sparse: HashMap<u64, Value>,
    /// The next number of MEMOIZE.
    pub(super) count: u64,
}

impl Memo {
    pub(super) fn get(&self, at: u64) -> Option<&Value> {
        self.dense.get(at as usize).or_else(|| self.sparse.get(&at))
    }

    pub(super) fn insert(&mut self, at: u64, value: Value) {
        self.count += 1;
        // Protocol 0 begins with 1.
        if at == 1 && self.dense.is_empty() {
            self.dense.push(Value::None);
        }
        let next = self.dense.len() as u64;
        match self.dense.get_mut(at as usize) {
            Some(place) => *place = value,
            None if at == next => self.dense.push(value),
            None => drop(self.sparse.insert(at, value)),
        }
    }
}
