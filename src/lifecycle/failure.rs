//! What a resource says where a request to the API server fails, so that nothing can be decided or done.

use jiff::Timestamp;

use super::decision::Action;
use super::local::Local;
use super::observed::StatusRecord;
use super::record::Log;
use super::rules::finalizer::put_back;
use super::verdict::{Reason, Verdict};

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was asked, and how it failed: a sentence without its end.
    pub what: String,
    /// Where the Secret was to be read: the API server's words.
    pub unreadable: Option<String>,
    /// Whether it may pass by itself.
    pub passes: Passes,
}

/// Whether a failure may pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// A right is missing.
    NotWithoutARight,
    /// It took minutes, or is a defect.
    Hardly,
    /// It was refused, or the answer was none that can be read.
    Seldom,
    /// Too much to do, somebody else was faster, or no connection.
    Mostly,
}

impl Passes {
    /// How many failures in a row before it are taken to pass, and not told.
    fn untold(self) -> u32 {
        match self {
            Self::NotWithoutARight | Self::Hardly => 0,
            Self::Seldom => 1,
            Self::Mostly => 4,
        }
    }
}

/// What the resource says after so many failures in a row before this one; none: that it fails is no news yet. What worked is
/// still taken to work.
pub fn verdict(failure: &Failure, before: u32, secret: &str, works: bool, deleting: bool) -> Option<Verdict> {
    if before < failure.passes.untold() {
        return None;
    }
    if let Some(why) = &failure.unreadable {
        let remedy = match failure.passes {
            Passes::NotWithoutARight => "; grant the operator the right to get Secrets in this namespace",
            _ => "",
        };
        let message = format!(
            "Secret {secret:?} can't be read, so nothing is issued, rotated or revoked: {why}. It is read again at least every minute{remedy}"
        );
        return Some(Verdict::new(Reason::SecretUnreadable, works, message));
    }
    let reason = match (deleting, works) {
        (true, _) => Reason::Deleting,
        (false, true) => Reason::Rotating,
        (false, false) => Reason::Issuing,
    };
    Some(Verdict::new(reason, works, format!("{}. It is tried again at least every minute", failure.what)))
}

/// What is known of a resource without its Secret.
pub struct Known<'a> {
    /// Its status.
    pub status: &'a StatusRecord,
    /// Its log.
    pub log: &'a Log,
    /// What only this process knows.
    pub local: &'a Local,
    /// Whether it has our finalizer.
    pub has_finalizer: bool,
    /// It is being deleted.
    pub deleting: bool,
}

/// What is done in spite of the failure. Where the Secret can't be read, the rules have nothing to go by; but what there is
/// stays within reach: the finalizer is put back.
pub fn action(failure: &Failure, known: &Known<'_>, now: Timestamp) -> Option<Action> {
    let Known { status, log, local, has_finalizer, deleting } = known;
    let may_be_lost = status.has_something_to_lose(log) || local.is_busy();
    let is_missing = failure.unreadable.is_some() && !has_finalizer && !deleting && may_be_lost;
    put_back(is_missing, local, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(passes: Passes) -> Failure {
        Failure { what: "Writing the record failed: no".into(), unreadable: None, passes }
    }

    fn said(failure: &Failure, before: u32) -> Option<Reason> {
        verdict(failure, before, "agent", false, false).map(|verdict| verdict.reason)
    }

    #[test]
    fn what_may_pass_by_itself_is_said_where_it_does_not() {
        for (passes, untold) in
            [(Passes::NotWithoutARight, 0), (Passes::Hardly, 0), (Passes::Seldom, 1), (Passes::Mostly, 4)]
        {
            let told: Vec<_> = (0..6).filter(|before| said(&failure(passes), *before).is_some()).collect();
            assert_eq!(told, Vec::from_iter(untold..6), "{passes:?}");
        }
    }

    #[test]
    fn a_key_that_works_stays_ready_and_a_deletion_is_called_so() {
        let of = |works, deleting| verdict(&failure(Passes::Hardly), 0, "agent", works, deleting).unwrap();
        let said = [of(false, false), of(true, false), of(true, true)].map(|verdict| (verdict.reason, verdict.ready));
        assert_eq!(said, [(Reason::Issuing, false), (Reason::Rotating, true), (Reason::Deleting, true)]);
        assert!(of(true, false).message.starts_with("Writing the record failed: no. It is tried again"));
    }

    #[test]
    fn a_secret_that_can_not_be_read_is_said_with_the_words_and_the_remedy() {
        let unreadable = |passes| Failure { unreadable: Some("forbidden by RBAC".into()), ..failure(passes) };
        let right = verdict(&unreadable(Passes::NotWithoutARight), 0, "agent", true, false).unwrap();
        assert!(right.ready && right.message.contains("forbidden by RBAC") && right.message.contains("grant"));
        let other = verdict(&unreadable(Passes::Seldom), 1, "agent", true, false).unwrap();
        assert_eq!((other.reason, other.message.contains("grant")), (Reason::SecretUnreadable, false));
    }
}
