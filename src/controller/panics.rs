//! A panic is a defect of one place: it ends neither the process nor what is done for others.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures::FutureExt;

use super::memory::Memory;
use super::{Context, Error, LONGEST_PAUSE};
use crate::lifecycle::event::Event;
use crate::lock::lock;

/// Runs one reconcile to its end; a panic in it is an error like others, which is counted, logged and tried again ever later.
/// Whatever it held is released as it unwinds, and what it left half done is found by the next one, as after a crash.
pub(super) async fn caught<T>(reconcile: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(reconcile).catch_unwind().await.unwrap_or(Err(Error::Panicked))
}

/// Runs a call to DataFast that a reconcile does not wait for. After a panic, what came of the call is not known: that is found
/// out by list, and not at once, for the next call may panic as well, and each may cost a token.
pub(super) async fn guarded(
    ctx: Arc<Context>,
    kind: &'static str,
    memory: Arc<Mutex<Memory>>,
    call: impl Future<Output = ()>,
) {
    let Err(error) = caught(call.map(Ok)).await else { return };
    ctx.metrics.reconcile_failed(kind, error.reason());
    tokio::time::sleep(LONGEST_PAUSE).await;
    lock(&memory).apply(Event::CallLost, ctx.both_clocks());
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn looks(text: &str) -> Result<usize, Error> {
        tokio::task::yield_now().await;
        // As `&text[1..]` panics within a character, which quotes the text.
        assert!(text.is_empty(), "{text:?} is not empty");
        Ok(0)
    }

    #[tokio::test]
    async fn a_reconcile_that_panics_fails_and_says_nothing_of_what_it_saw() {
        let error = caught(looks("dft_secretsecret")).await.unwrap_err();
        assert_eq!(error.reason(), "Panic");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[tokio::test]
    async fn a_reconcile_that_panics_ends_no_other() {
        let looks = ["dft_secretsecret", "", "dft_secretsecret", ""].map(|text| caught(looks(text)));
        let outcomes: Vec<bool> = futures::future::join_all(looks).await.iter().map(Result::is_ok).collect();
        assert_eq!(outcomes, [false, true, false, true]);
    }
}
