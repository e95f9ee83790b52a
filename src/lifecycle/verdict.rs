//! What is said of a resource: the reason in its condition `Ready`.

/// A reason of `Ready`. What each means for the other conditions is here, in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The Secret holds a live token with the wanted scope.
    Issued,
    /// At work on a token.
    Issuing,
    /// At work on a token that takes the place of a good one.
    Rotating,
    /// The account is full.
    WaitingForSlot,
    /// DataFast answers 429.
    RateLimited,
    /// DataFast answers 5xx, nothing or nonsense.
    ApiUnavailable,
    /// There is no account resource of that name.
    AccountNotFound,
    /// The account's credential is missing or refused.
    AccountNotReady,
    /// The account's `allow` forbids it.
    NotAllowed,
    /// DataFast refused the request.
    Rejected,
    /// A Secret of that name is not ours.
    SecretConflict,
    /// Quota, admission or RBAC refuse the Secret.
    SecretWriteRefused,
    /// The Secret can't be read.
    SecretUnreadable,
    /// Something else changes the Secret again and again.
    SecretContested,
    /// Issued again too often.
    Throttled,
    /// `suspend` is set.
    Suspended,
    /// `expiresAfter` has passed.
    Expired,
    /// It was ended because nobody used it.
    Unused,
    /// The resource is being deleted.
    Deleting,
}

impl Reason {
    /// The word in conditions, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "Issued",
            Self::Issuing => "Issuing",
            Self::Rotating => "Rotating",
            Self::WaitingForSlot => "WaitingForSlot",
            Self::RateLimited => "RateLimited",
            Self::ApiUnavailable => "ApiUnavailable",
            Self::AccountNotFound => "AccountNotFound",
            Self::AccountNotReady => "AccountNotReady",
            Self::NotAllowed => "NotAllowed",
            Self::Rejected => "Rejected",
            Self::SecretConflict => "SecretConflict",
            Self::SecretWriteRefused => "SecretWriteRefused",
            Self::SecretUnreadable => "SecretUnreadable",
            Self::SecretContested => "SecretContested",
            Self::Throttled => "Throttled",
            Self::Suspended => "Suspended",
            Self::Expired => "Expired",
            Self::Unused => "Unused",
            Self::Deleting => "Deleting",
        }
    }

    /// Whether a person must act before this can get better.
    pub fn is_stalled(self) -> bool {
        matches!(self, Self::NotAllowed | Self::Rejected | Self::SecretConflict)
    }

    /// Whether it is that DataFast can't be called now.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::RateLimited | Self::ApiUnavailable | Self::AccountNotFound | Self::AccountNotReady)
    }

    /// Whether work is under way, or will go on by itself.
    pub fn is_reconciling(self) -> bool {
        !self.is_stalled() && !matches!(self, Self::Issued | Self::Suspended | Self::Expired | Self::Unused)
    }

    /// Whether this reason of `Ready` says that the resource has ended: no rotation follows.
    pub fn is_end(reason: &str) -> bool {
        [Self::Expired, Self::Unused].iter().any(|end| end.as_str() == reason)
    }

    /// Whether a person should hear of it: an event tells.
    pub fn is_warning(self) -> bool {
        match self {
            Self::WaitingForSlot
            | Self::NotAllowed
            | Self::Rejected
            | Self::SecretConflict
            | Self::SecretWriteRefused
            | Self::SecretUnreadable
            | Self::SecretContested
            | Self::AccountNotFound
            | Self::AccountNotReady
            | Self::Unused
            | Self::Throttled => true,
            Self::Issued
            | Self::Issuing
            | Self::Rotating
            | Self::RateLimited
            | Self::ApiUnavailable
            | Self::Suspended
            | Self::Expired
            | Self::Deleting => false,
        }
    }

    /// Whether a token that works stays `Ready` under this reason: what is in the way concerns the next token only.
    fn keeps_ready(self) -> bool {
        matches!(
            self,
            Self::Issued
                | Self::Rotating
                | Self::RateLimited
                | Self::ApiUnavailable
                | Self::AccountNotFound
                | Self::AccountNotReady
                | Self::SecretWriteRefused
                | Self::SecretUnreadable
                | Self::Throttled
                | Self::SecretContested
                | Self::Suspended
                | Self::Deleting
        )
    }
}

/// What a reconcile found, for the conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Ready`'s status.
    pub ready: bool,
    /// `Ready`'s reason.
    pub reason: Reason,
    /// For people: what is the case, and what to do about it.
    pub message: String,
}

impl Verdict {
    /// `works`: the Secret holds a key that is good, even if another token is wanted.
    pub fn new(reason: Reason, works: bool, message: impl Into<String>) -> Self {
        Self { ready: works && reason.keeps_ready(), reason, message: message.into() }
    }
}
