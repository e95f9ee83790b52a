//! The shell holds no rule: what it may name of the core is told by its text.

use std::path::{Path, PathBuf};

/// All sources below a directory of `src`.
fn sources(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let nested = directories.iter().flat_map(|directory| sources(directory));
    nested.chain(files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"))).collect()
}

/// The lines of all sources outside the core, each after its file and its number.
fn shell() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let outside = sources(&src).into_iter().filter(|file| !file.starts_with(src.join("lifecycle")));
    let lines = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        let at = |n: usize| format!("{}:{}", file.display(), n + 1);
        text.lines().enumerate().map(|(n, line)| (at(n), line.trim().to_owned())).collect::<Vec<_>>()
    };
    let lines: Vec<_> = outside.flat_map(lines).collect();
    assert!(lines.len() > 5000, "only {} lines were found", lines.len());
    lines
}

/// Whether a line does with reasons what only the core may: anything but print one, or ask the core what a printed one means.
fn judges(line: &str) -> bool {
    let is_word = |end: Option<char>| end.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '"');
    let mut rest = line;
    while let Some(at) = rest.find("Reason") {
        let (before, after) = (rest[..at].chars().next_back(), &rest[at + "Reason".len()..]);
        let variant = after.strip_prefix("::").map(|it| it.trim_start_matches(char::is_alphanumeric));
        let prints = variant.is_some_and(|it| it.starts_with(".as_str()")) || after.starts_with("::is_end(");
        if is_word(before) && is_word(after.chars().next()) && !prints {
            return true;
        }
        rest = after;
    }
    false
}

#[test]
fn the_shell_names_a_reason_only_where_it_prints_it() {
    assert!(judges("if verdict.reason == Reason::Unused {") && judges("fn rest(reason: Option<Reason>) {"));
    assert!(!judges("self.warn(Reason::Unused.as_str(), &note);") && !judges("let ReasonOf = 1;"));
    let judgements =
        shell().into_iter().filter(|(_, line)| !line.starts_with("use ") && !line.starts_with("//") && judges(line));
    assert_eq!(judgements.collect::<Vec<_>>(), []);
}

/// Nobody outside can write a field that is not public: the compiler sees to that.
#[test]
fn only_the_core_can_write_what_a_process_knows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lifecycle/local.rs");
    let text = std::fs::read_to_string(source).unwrap();
    let (_, local) = text.split_once("pub struct Local {").unwrap();
    let (fields, _) = local.split_once("\n}").unwrap();
    let fields: Vec<&str> =
        fields.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    assert!(fields.len() > 10, "{fields:?}");
    let open: Vec<_> = fields.iter().filter(|field| !field.starts_with("pub(super) ")).collect();
    assert_eq!(open, Vec::<&&str>::new(), "these can be written outside the core");
    let lends =
        text.lines().filter(|line| line.contains("pub fn") && line.contains("&mut ") && line.contains("-> &mut"));
    assert_eq!(lends.count(), 0, "a field is lent to be written");
}
