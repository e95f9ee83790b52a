//! `GET /websites`.

use serde_json::json;

use super::Caller;
use super::answer::{Answer, succeed};
use crate::state::AccountState;

pub(super) fn list(account: &AccountState, caller: &Caller) -> Answer {
    let websites = account.websites.iter().filter(|website| caller.scope.has_website(&website.id));
    succeed(websites.map(|website| json!({ "_id": website.id, "domain": website.domain })).collect())
}
