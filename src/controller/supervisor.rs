//! The operator's tasks: run until the process is to end, then what is under way is finished.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, select_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::run::RunError;
use super::{Context, reconcile};
use crate::lifecycle::event::Event;

/// How long to wait at the end of the process for what is under way.
const FINISH: Duration = Duration::from_secs(15);

/// The operator's tasks. None of them ends by itself before `stop`.
pub(super) struct Supervisor {
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
}

impl Supervisor {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, running: Vec::new() }
    }

    /// Runs a task that shuts down by itself when it is to stop.
    pub(super) fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.push(tokio::spawn(task));
    }

    /// Runs a task that may end anywhere when it is to stop.
    pub(super) fn until_stop(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.run(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Waits until it is to stop, then for what is under way. `ready` is done at the same time.
    pub(super) async fn supervise(
        mut self,
        ctx: &Arc<Context>,
        ready: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let never = async {
            ready.await;
            std::future::pending().await
        };
        let ended = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            (_, index, _) = select_all(self.running.iter_mut()) => Some(index),
            never = never => never,
        };
        if let Some(index) = ended {
            if !self.stop.is_cancelled() {
                return Err(RunError::ControllerEnded);
            }
            drop(self.running.swap_remove(index));
        }
        let aborts: Vec<_> = self.running.iter().map(JoinHandle::abort_handle).collect();
        let finished = tokio::time::timeout(FINISH, finish(ctx, self.running)).await;
        // Whatever still runs must not act once the lease is released.
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        if finished.is_err() {
            tracing::warn!("not everything could be finished in time: the record tells the next process what is left");
        }
        Ok(())
    }
}

/// Waits for the reconciles under way, then for keys that no Secret holds yet.
async fn finish(ctx: &Arc<Context>, running: Vec<JoinHandle<()>>) {
    // A list or a revocation that hangs must not take the time that keys in hand need.
    if tokio::time::timeout(FINISH / 2, join_all(running)).await.is_err() {
        tracing::info!("what is under way does not end in time: keys that no Secret holds yet come first");
    }
    ctx.requests.close();
    let mut is_told = false;
    loop {
        let busy = ctx.memories.busy();
        if busy.is_empty() {
            break;
        }
        if !is_told {
            tracing::info!(keys = busy.len(), "keys are still to be written into Secrets");
            is_told = true;
        }
        ctx.memories.apply(&Event::Ending, ctx.both_clocks());
        let reconciles = busy.into_iter().map(|resource| reconcile::reconcile(resource, ctx.clone()));
        join_all(reconciles).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ctx.requests.wait().await;
    ctx.events.finish().await;
}
