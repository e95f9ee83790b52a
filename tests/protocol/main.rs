//! The issuing protocol, explored state by state: the real `decide` and the real record types, driven by every order of
//! crashes, lost answers, lagging lists and changes by users that the budgets allow.
//!
//! What is abstract: time is young or past the horizon; the overlap is zero, so that what was replaced goes at once, but
//! in the mixes with rotation, where it passes at any time; and a dry run passes but where a policy refuses Secrets for a
//! while. A number stands for an attempt, the token that it made, and the key that it brought: of a token that was rolled,
//! the last key alone is live. Two operators are there so that a lost lease can be explored: with `split`, both act.
#![allow(clippy::unwrap_used, reason = "a model that can't be made is a defect of the test")]
#![expect(clippy::too_many_lines, reason = "a step of the model is one match over all there is")]

mod bugs;
mod execute;
mod mixes;
mod model;
mod names;
mod order;
mod shared;
mod sight;
mod step;
mod world;
