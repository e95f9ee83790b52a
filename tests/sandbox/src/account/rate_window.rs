//! The rate window of an account, as tests hold it.

use super::Account;
use crate::rate_window::{RateWindow, Spending, WindowView};
use crate::state::now_in_milliseconds;

impl Account {
    /// Gives the account a rate window that nothing was spent of; none: takes it away.
    pub fn set_window(&self, window: Option<RateWindow>) {
        self.change(|account| account.window = window.map(Spending::new));
    }

    /// What is left of the rate window; none: the account has no such window.
    pub fn window(&self) -> Option<WindowView> {
        self.read(|account| account.window.as_ref().map(|window| window.view(now_in_milliseconds())))
    }

    /// Makes so many calls as another client of the account. They are in no log. False: the account has no rate window.
    pub fn spend(&self, calls: u32) -> bool {
        self.change(|account| {
            account.window.as_mut().map(|window| window.spend(calls, now_in_milliseconds())).is_some()
        })
    }

    /// Ends the window that runs: the next call begins one. False: the account has no rate window.
    pub fn reset_window(&self) -> bool {
        self.change(|account| account.window.as_mut().map(Spending::reset).is_some())
    }
}
