//! When rotations may begin: the windows of a resource and of its account.
//!
//! All searches are bounded: however windows are written, no reconcile takes long by them.

mod flaw;
mod window;

use jiff::{SignedDuration, Timestamp};

pub use flaw::Flaw;
use window::Window;

use crate::api::RotationWindow;
use flaw::Fault;

/// No window is searched for beyond.
const HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);
/// Steps of a search, each to the next time at which a window opens or closes.
const MOST_STEPS: usize = 400;

/// The windows of one list, parsed.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    allow: Vec<(usize, Window)>,
    deny: Vec<(usize, Window)>,
    flaw: Option<Flaw>,
}

impl Windows {
    /// Parses a list. With a flaw in it, nothing is allowed: what was meant can't be told.
    pub fn parse(list: &[RotationWindow]) -> Self {
        let mut windows = Self::default();
        for (index, window) in list.iter().enumerate() {
            let side = match window.kind.as_str() {
                RotationWindow::ALLOW => Ok(&mut windows.allow),
                RotationWindow::DENY => Ok(&mut windows.deny),
                kind => Err(Fault::new("kind", kind.to_owned(), "it must be Allow or Deny")),
            };
            match side.and_then(|side| Ok((side, Window::parse(window)?))) {
                Ok((side, parsed)) => side.push((index, parsed)),
                Err(fault) => windows.flaw = windows.flaw.or(Some(Flaw { index, fault })),
            }
        }
        windows
    }

    /// The first that can't be used.
    pub fn flaw(&self) -> Option<&Flaw> {
        self.flaw.as_ref()
    }

    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty() && self.flaw.is_none()
    }

    fn allows(&self, at: Timestamp) -> bool {
        let is_open = |side: &[(usize, Window)]| side.iter().any(|(_, window)| window.closes(at).is_some());
        self.flaw.is_none() && !is_open(&self.deny) && (self.allow.is_empty() || is_open(&self.allow))
    }

    /// What of the list is in the way at a time.
    fn obstacle(&self, at: Timestamp) -> Option<String> {
        if let Some(flaw) = &self.flaw {
            return Some(flaw.to_string());
        }
        if let Some((index, _)) = self.deny.iter().find(|(_, window)| window.closes(at).is_some()) {
            return Some(format!("[{index}], which denies it"));
        }
        let is_outside = !self.allow.is_empty() && self.allow.iter().all(|(_, window)| window.closes(at).is_none());
        is_outside.then(|| ", which allows it at other times".to_owned())
    }

    /// If nothing may begin at a time: something is allowed at this later time at the earliest.
    fn not_before(&self, at: Timestamp) -> Step {
        let ends = self.deny.iter().filter_map(|(_, window)| window.closes(at));
        if let Some(end) = ends.max() {
            return Step::To(end);
        }
        if self.allow.is_empty() || self.allow.iter().any(|(_, window)| window.closes(at).is_some()) {
            return Step::Here;
        }
        self.allow.iter().filter_map(|(_, window)| window.opens_after(at)).min().map_or(Step::Nowhere, Step::To)
    }

    /// If nothing might begin right before a time: something was allowed right before this earlier time at the latest.
    fn not_after(&self, at: Timestamp, past: Timestamp) -> Step {
        let begins = self.deny.iter().filter_map(|(_, window)| window.opened(at));
        if let Some(begin) = begins.min() {
            return Step::To(begin);
        }
        if self.allow.is_empty() || self.allow.iter().any(|(_, window)| window.opened(at).is_some()) {
            return Step::Here;
        }
        let closed = self.allow.iter().filter_map(|(_, window)| window.closed_before(at, past));
        closed.max().map_or(Step::Nowhere, Step::To)
    }

    /// Where something was allowed right before a time: since when without a break, as far as one step tells.
    fn allowed_since(&self, at: Timestamp, past: Timestamp) -> Timestamp {
        let denied = self.deny.iter().filter_map(|(_, window)| window.closed_before(at, past)).max();
        let allowed = self.allow.iter().filter_map(|(_, window)| window.opened(at)).min();
        denied.into_iter().chain(allowed).max().unwrap_or(past).max(past)
    }
}

/// Where a search goes on.
enum Step {
    Here,
    To(Timestamp),
    Nowhere,
}

/// The windows that a rotation has to keep to: those of its resource and those of the account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar<'a> {
    pub(super) own: &'a Windows,
    pub(super) account: Option<&'a Windows>,
}

impl Calendar<'_> {
    /// Whether there is no window at all.
    pub(super) fn is_empty(&self) -> bool {
        self.lists().all(Windows::is_empty)
    }

    fn lists(&self) -> impl Iterator<Item = &Windows> {
        [Some(self.own), self.account].into_iter().flatten()
    }

    pub(super) fn has_flaw(&self) -> bool {
        self.lists().any(|list| list.flaw.is_some())
    }

    /// Whether a rotation may begin at a time.
    pub(super) fn allows(&self, at: Timestamp) -> bool {
        self.lists().all(|list| list.allows(at))
    }

    /// What is in the way at a time, for people.
    pub(super) fn obstacle(&self, at: Timestamp, account: &str) -> Option<String> {
        let own = self.own.obstacle(at).map(|what| format!("spec.rotation.windows{what}"));
        let shared = self.account.and_then(|list| list.obstacle(at));
        let shared = shared.map(|what| format!("DataFastAccount {account:?}, spec.rotationWindows{what}"));
        own.into_iter().chain(shared).reduce(|one, other| format!("{one}; {other}"))
    }

    /// The first time at or after another one at which a rotation may begin. None: there is none in five years, or none that
    /// could be found in so many steps.
    pub(super) fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        if self.has_flaw() {
            return None;
        }
        let last = at.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut at = at;
        for _ in 0..MOST_STEPS {
            let mut next = at;
            for step in self.lists().map(|list| list.not_before(at)) {
                match step {
                    Step::Here => {}
                    Step::To(later) => next = next.max(later),
                    Step::Nowhere => return None,
                }
            }
            if next == at {
                return Some(at);
            }
            if next > last {
                return None;
            }
            at = next;
        }
        None
    }

    /// The last time before `end` during which rotations may begin: since when, though not from before `past`, and until when.
    /// Where they may right up to `end`, that is when it ends.
    pub(super) fn last_before(&self, end: Timestamp, past: Timestamp) -> Option<(Timestamp, Timestamp)> {
        if self.has_flaw() {
            return None;
        }
        let mut at = end;
        for _ in 0..MOST_STEPS {
            let mut next = at;
            for step in self.lists().map(|list| list.not_after(at, past)) {
                match step {
                    Step::Here => {}
                    Step::To(earlier) => next = next.min(earlier),
                    Step::Nowhere => return None,
                }
            }
            if next <= past {
                return None;
            }
            if next == at {
                return Some((self.allowed_since(at, past), at));
            }
            at = next;
        }
        None
    }

    /// Since when rotations may begin without a break, where they may right before `at`; not from before `past`.
    fn allowed_since(&self, at: Timestamp, past: Timestamp) -> Timestamp {
        let mut since = at;
        for _ in 0..MOST_STEPS {
            let earlier = self.lists().map(|list| list.allowed_since(since, past)).max().unwrap_or(past);
            let is_allowed = |at| self.lists().all(|list| matches!(list.not_after(at, past), Step::Here));
            let is_the_start = earlier >= since || earlier <= past;
            since = earlier.max(past).min(since);
            if is_the_start || !is_allowed(since) {
                break;
            }
        }
        since
    }
}
