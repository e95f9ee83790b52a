//! What may happen next.

use super::names::N;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Plan(usize),
    Execute(usize),
    Start(usize),
    Answer { by: usize, n: N, listed: bool },
    AnswerLost { by: usize, n: N, effect: bool },
    Refused { by: usize, n: N },
    StrayTakesEffect { by: usize, n: N },
    StrayIsLost { by: usize, n: N },
    Appears(N),
    KeyAppears(N),
    HorizonPasses(N),
    Crash(usize),
    LeaseLost,
    UserDeletes,
    UserChangesScope,
    UserAsksToRotate,
    UserAsksToRevoke,
    OverlapPasses,
    UserChangesStrategy,
    SecretDeleted,
    TokenDeleted(N),
    RolledByHand(N),
    Used(N),
    SecretsRefused,
    SecretsTaken,
}

impl Step {
    /// Steps that the system takes by itself: where none is left, it has settled.
    pub(super) fn is_progress(&self) -> bool {
        use Step::*;
        matches!(
            self,
            Plan(_)
                | Execute(_)
                | Start(_)
                | Answer { .. }
                | StrayTakesEffect { .. }
                | Appears(_)
                | KeyAppears(_)
                | HorizonPasses(_)
                | OverlapPasses
                | SecretsTaken
        )
    }
}
