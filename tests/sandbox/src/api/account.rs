//! `GET /account`.

use serde_json::json;

use super::answer::{Answer, succeed};
use crate::state::AccountState;

pub(super) fn get(account: &AccountState) -> Answer {
    succeed(vec![json!({ "name": account.name, "email": format!("{}@example.com", account.name) })])
}
