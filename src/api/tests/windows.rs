//! Windows of rotations: what the schema takes can be parsed, and is replaced as a whole.

use super::*;
use crate::lifecycle::windows::Windows;

fn one(schedule: &str, duration: &str, zone: &str) -> Value {
    json!([{ "kind": "Allow", "schedule": schedule, "duration": duration, "timeZone": zone }])
}

#[test]
fn what_the_schema_takes_of_a_window_can_be_parsed() {
    let schedules = [
        "0 2 * * *",
        "*/15 22-23,0-6 * * 1-5",
        "  59  23 31 12 7 ",
        "0 0 1,15 JAN-mar,DEC Sun,TUE-SAT",
        "5/10 */7 */2 3/2 MON/2",
        "00 02 01 02 00",
        "0 2 29 2 *",
        "0 2 30 2 1",
        "*,5 * * * 0-7",
        "*/59 */23 */31 */12 */7",
    ];
    let windows = schedules.map(|schedule| one(schedule, "4h", "Europe/Berlin"));
    let others = [
        one("0 2 * * *", "1m", "UTC"),
        one("0 2 * * *", "168h", "America/Argentina/Buenos_Aires"),
        one("0 2 * * *", "90m30s", "Etc/GMT+2"),
    ];
    for windows in windows.into_iter().chain(others) {
        let manifest = token(json!({ "rotation": { "every": "720h", "windows": windows } }));
        assert_eq!(complaints(&manifest, None), "", "{manifest}");
        let read = DataFastAccessToken::deserialize(&manifest).unwrap();
        assert_eq!(Windows::parse(&read.spec.rotation.windows).flaw(), None, "{manifest}");
        let key = key(json!({ "rotation": { "strategy": "Roll", "windows": windows } }));
        assert_eq!(
            DataFastWebsiteKey::deserialize(&key).unwrap().spec.rotation.rotation.windows,
            read.spec.rotation.windows
        );
        let account = account(json!({ "rotationWindows": windows }));
        assert_eq!(complaints(&account, None), "", "{account}");
        assert_eq!(DataFastAccount::deserialize(&account).unwrap().spec.rotation_windows, read.spec.rotation.windows);
    }
}

#[test]
fn windows_are_replaced_as_a_whole() {
    let of = |kind: &str, path: &str| schema(kind).pointer(path).cloned().unwrap();
    for (kind, path) in [
        ("DataFastAccessToken", "/properties/spec/properties/rotation/properties/windows"),
        ("DataFastWebsiteKey", "/properties/spec/properties/rotation/properties/windows"),
        ("DataFastAccount", "/properties/spec/properties/rotationWindows"),
    ] {
        assert_eq!(of(kind, path)["x-kubernetes-list-type"], json!("atomic"), "{kind}");
    }
}
