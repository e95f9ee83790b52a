//! Panics, logged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};

/// Logs where a panic was, in place of the message that Rust prints: that one may quote whatever was at hand, a key for one.
/// Words that were written into the program are safe.
pub(super) fn log() {
    set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let at = panic.location().map(ToString::to_string);
        let error = panic.payload().downcast_ref::<&'static str>();
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            at,
            error,
            backtrace,
            "a panic, which is a defect of the operator: what it concerns is tried again"
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::telemetry::{self, LogFormat};

    const CHILD: &str = "DATAFAST_TEST_PANICS";

    /// What the other test runs in a process of its own: a hook is for the whole process.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let _traces = telemetry::start(LogFormat::Json);
        let key = String::from("dft_sécret");
        // Rust's message would quote the text.
        let cut = std::thread::spawn(move || key[..6].len()).join();
        let said = std::thread::spawn(|| panic!("written into the program")).join();
        assert!(cut.is_err() && said.is_err());
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_what_it_was_about() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::panics::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let lines: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &serde_json::Value| line["level"] == "ERROR")
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines.iter().all(|line| line["at"].as_str().unwrap().contains("panics.rs:")), "{text}");
        assert_eq!(lines[1]["error"], "written into the program");
        assert!(!text.contains("cret"), "{text}");
    }
}
