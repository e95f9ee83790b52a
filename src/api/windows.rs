//! When rotations may begin.

#![expect(unreachable_pub, reason = "KubeSchema copies each struct into a function, `pub` included")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{cron, rules};

/// A window: it opens by a schedule, and stays open for a while. All of it is text, and the core parses it: what it can't
/// parse holds back rotations, and not a leak's, as a field that this version can't read at all would.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationWindow {
    /// `Allow`: where a list has one, rotations begin only in those. `Deny`: no rotation begins in it, whatever allows it.
    #[schemars(extend("enum" = json!([RotationWindow::ALLOW, RotationWindow::DENY])))]
    pub kind: String,

    /// When it opens: five fields of cron, minute, hour, day of month, month, day of week, such as `0 2 * * SAT` (Saturdays
    /// at 2:00). Numbers, `*`, ranges, lists and steps; months and days of the week by name, too.
    #[schemars(length(max = 100))]
    #[x_kube(validation = cron::schedule("schedule"))]
    #[x_kube(validation = cron::ranges_ascend("schedule"))]
    #[x_kube(validation = cron::schedule_comes("schedule"))]
    pub schedule: String,

    /// How long it stays open each time, such as `4h`; `1m` to `168h`.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::duration_between("duration", "1m", "168h", "4h"))]
    pub duration: String,

    /// The time zone of the schedule, by its IANA name, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = cron::time_zone("timeZone"))]
    pub time_zone: Option<String>,
}

impl RotationWindow {
    /// Rotations begin in these only.
    pub const ALLOW: &str = "Allow";
    /// No rotation begins in it.
    pub const DENY: &str = "Deny";
    /// The time zone where none is named.
    pub const DEFAULT_TIME_ZONE: &str = "UTC";

    /// Effective time zone.
    pub fn time_zone(&self) -> &str {
        self.time_zone.as_deref().unwrap_or(Self::DEFAULT_TIME_ZONE)
    }
}
