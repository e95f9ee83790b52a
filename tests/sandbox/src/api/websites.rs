//! `GET /websites`.

use serde_json::json;

use super::Caller;
use super::answer::{Answer, succeed};
use crate::state::AccountState;

pub(super) fn list(account: &AccountState, caller: &Caller) -> Answer {
    let visible = |id: &String| caller.scope.website_ids.is_empty() || caller.scope.website_ids.contains(id);
    let websites = account.websites.iter().filter(|website| visible(&website.id));
    succeed(websites.map(|website| json!({ "_id": website.id, "domain": website.domain })).collect())
}
