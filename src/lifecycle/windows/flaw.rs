//! What is wrong with a window.

use std::fmt;

/// What is wrong with a field of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    field: &'static str,
    value: String,
    remedy: &'static str,
}

/// Characters of a value that are shown.
const VALUE_LENGTH: usize = 100;

impl Fault {
    pub(super) fn new(field: &'static str, value: String, remedy: &'static str) -> Self {
        Self { field, value, remedy }
    }

    pub(super) fn of((field, value): (&'static str, String), remedy: &'static str) -> Self {
        Self::new(field, value, remedy)
    }
}

/// A window that can't be used: which one, its value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Its place in its list.
    pub(super) index: usize,
    pub(super) fault: Fault,
}

/// After the name of the list: `[0].schedule "...": it ...`.
impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, fault: Fault { field, value, remedy } } = self;
        let value: String = value.chars().take(VALUE_LENGTH).collect();
        write!(f, "[{index}].{field} {value:?}: {remedy}")
    }
}
